//! Functions that are one expression of intrinsics.

/// Functions of a trait, each by an expression that is as sound as the trait's contract.
macro_rules! ops {
    ($($name:ident($($args:tt)*) $(-> $result:ty)? = $body:expr;)*) => {
        $(#[inline(always)]
        #[allow(unused_unsafe)]
        unsafe fn $name($($args)*) $(-> $result)? {
            // SAFETY: the trait's contract.
            unsafe { $body }
        })*
    };
}
