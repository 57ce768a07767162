//! The canonical prompts of an answer in parallel: first the outline, then each point.

/// Asks for the outline of the answer to a question.
///
/// ```
/// let prompt = jupiter_world::prompts::outline("How do I clean the lidar?");
/// assert_eq!(
///     prompt,
///     "How do I clean the lidar?\nOutline only: numbered points of 2 to 5 words."
/// );
/// ```
pub fn outline(question: &str) -> String {
    format!("{question}\nOutline only: numbered points of 2 to 5 words.")
}

/// Asks for one point of the outline that stands above, by its number from 1 and its title.
///
/// ```
/// use jupiter_world::prompts::expand;
/// assert_eq!(expand(3, None), "Write point 3.");
/// assert_eq!(expand(3, Some("Clean the window")), "Write point 3: Clean the window");
/// ```
pub fn expand(number: usize, title: Option<&str>) -> String {
    match title {
        Some(title) => format!("Write point {number}: {title}"),
        None => format!("Write point {number}."),
    }
}
