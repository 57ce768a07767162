//! Loops that the compiler sees as straight code.

/// Runs the body with a constant `$i` of 0 to `$n` (8 at most; 2 for `P`), so that arrays of vectors become
/// registers. Conditions are constants, so that the compiler never sees what a tile does without.
macro_rules! unroll {
    (2, $i:ident => $body:block) => { unroll!(@ 2, $i, $body, 0 1) };
    (4, $i:ident => $body:block) => { unroll!(@ 4, $i, $body, 0 1 2 3) };
    (P, $i:ident => $body:block) => { unroll!(@ P, $i, $body, 0 1) };
    ($n:expr, $i:ident => $body:block) => { unroll!(@ $n, $i, $body, 0 1 2 3 4 5 6 7) };
    (@ $n:expr, $i:ident, $body:block, $($k:literal)*) => {
        $(if const { $k < $n } { const $i: usize = $k; $body })*
    };
}
