//! Panics in the middle of changes, for the tests that see them healed.

#[cfg(test)]
thread_local! {
    static COUNTDOWN: std::cell::Cell<Option<u32>> = const { std::cell::Cell::new(None) };
}

/// What is thrown.
#[cfg(test)]
struct Asked;

#[cfg(test)]
pub(super) fn is_one(panic: &Box<dyn std::any::Any + Send>) -> bool {
    panic.is::<Asked>()
}

/// Panics at the `n`-th [`point`] from now on, once; none: at no other one.
#[cfg(test)]
pub(super) fn arm(n: Option<u32>) {
    COUNTDOWN.set(n);
}

/// The state is half changed here.
pub(super) fn point() {
    #[cfg(test)]
    match COUNTDOWN.get() {
        Some(0) => {
            COUNTDOWN.set(None);
            // Unlike a panic it prints nothing: thousands of them are wanted.
            std::panic::resume_unwind(Box::new(Asked));
        }
        left => COUNTDOWN.set(left.map(|n| n - 1)),
    }
}
