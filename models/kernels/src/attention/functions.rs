//! Exponential and hyperbolic tangent by polynomials (those of Cephes), without a library whose bits
//! could differ between machines. Here for one number; `Lanes` has the same steps for vectors.

/// Below this, the exponential is 0, so that no weight is subnormal.
pub(super) const EXP_LOWEST: f32 = -86.0;
/// Adding it rounds to an integer, which then stands in the low bits.
pub(super) const ROUNDER: f32 = 12_582_912.0;
/// ln 2 in two parts; the product of the first with an exponent is exact.
pub(super) const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
/// (e^r - 1 - r) / r^2 for |r| <= ln 2 / 2, the highest power first.
pub(super) const EXP: [f32; 6] = [
    1.987_569_1e-4,
    1.398_199_9e-3,
    8.333_452e-3,
    4.166_579_6e-2,
    1.666_666_5e-1,
    0.5,
];
/// Below this absolute value, the tangent is a polynomial.
pub(super) const TANH_SMALL: f32 = 0.625;
/// (tanh(x) / x - 1) / x^2 by powers of x^2, the highest first.
pub(super) const TANH: [f32; 5] = [
    -5.704_988_7e-3,
    2.063_909e-2,
    -5.373_971_5e-2,
    1.333_144_2e-1,
    -3.333_328e-1,
];
/// Weights are added up as whole multiples of 1 / `ONE`, so that their order does not matter.
pub(super) const ONE: f32 = (1u32 << 30) as f32;

/// e^x for x <= 0, to about 1e-7 of it.
pub(super) fn exp(x: f32) -> f32 {
    if x < EXP_LOWEST {
        return 0.0;
    }
    let rounded = x.mul_add(std::f32::consts::LOG2_E, ROUNDER);
    let n = rounded - ROUNDER;
    let r = n.mul_add(-LN_2[1], n.mul_add(-LN_2[0], x));
    let y = EXP[1..].iter().fold(EXP[0], |y, &c| y.mul_add(r, c));
    let y = y.mul_add(r * r, r) + 1.0;
    f32::from_bits(y.to_bits().wrapping_add(rounded.to_bits() << 23))
}

/// tanh(x) for finite x.
pub(super) fn tanh(x: f32) -> f32 {
    if x.abs() < TANH_SMALL {
        let z = x * x;
        let y = TANH[1..].iter().fold(TANH[0], |y, &c| y.mul_add(z, c));
        return (y * z).mul_add(x, x);
    }
    let e = exp(-2.0 * x.abs());
    let y = (1.0 - e) / (1.0 + e);
    if x < 0.0 { 0.0 - y } else { y }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponential_and_tangent_are_near_the_exact_ones() {
        for i in 0..=200_000 {
            let x = -(i as f32) * 4.3e-4;
            let exact = f64::from(x).exp();
            assert!(
                ((f64::from(exp(x)) - exact) / exact).abs() < 2e-7,
                "exp({x})"
            );
            for x in [x, -x] {
                let exact = f64::from(x).tanh();
                assert!((f64::from(tanh(x)) - exact).abs() < 2e-7, "tanh({x})");
            }
        }
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(-87.0), 0.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
    }
}
