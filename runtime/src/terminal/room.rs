//! Room for answers in a conversation that grows: which turns are forgotten. Pure functions.

use jupiter_actors::request::LengthLimit;

/// Most tokens that are kept free for an answer: a long one.
const MOST_ROOM: u32 = 1024;
/// Share of the context that is kept free at most: 1 in so many.
const ROOM_SHARE: u32 = 4;

/// Tokens that are kept free for an answer of at most `n_predict` in a context of `n_ctx`.
pub(super) fn room(n_ctx: u32, n_predict: Option<u32>) -> u32 {
    let room = (n_ctx / ROOM_SHARE).min(MOST_ROOM);
    n_predict.map_or(room, |n| room.min(n))
}

/// How many of the oldest exchanges are forgotten, when the prompt without the first `i` of them has
/// `n_prompt[i]` tokens. Once some have to go, so many that the next turns need not forget again: each
/// time all that is kept is computed anew.
pub(super) fn to_forget(n_prompt: &[u32], n_ctx: u32, room: u32) -> usize {
    let fits = |room: u32| {
        let is_enough = |&n: &u32| n.saturating_add(room) <= n_ctx;
        n_prompt.iter().position(is_enough)
    };
    match fits(room) {
        Some(0) => 0,
        Some(least) => fits(2 * room).unwrap_or(least),
        None => n_prompt.len().saturating_sub(1),
    }
}

/// What a person is told of an answer that was cut.
pub(super) fn cut_notice(limit: LengthLimit) -> String {
    let how = match limit {
        LengthLimit::NPredict => "raise -n/--n-predict for longer ones",
        LengthLimit::PointTokens => "raise --point-tokens for longer ones",
        LengthLimit::Context => "raise -c/--ctx-size, or ask for less at a time",
    };
    format!("(the answer was cut, as {limit}: {how})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_a_share_of_the_context_and_no_more_than_is_asked_for() {
        assert_eq!(room(130, None), 32);
        assert_eq!(room(130, Some(8)), 8);
        assert_eq!(room(1 << 20, None), 1024);
    }

    #[test]
    fn the_oldest_exchanges_go_when_an_answer_would_have_no_room() {
        assert_eq!(to_forget(&[90], 130, 32), 0);
        assert_eq!(to_forget(&[98, 60, 20], 130, 32), 0);
        // Some more than need be, so that it is not done again with the next turn.
        assert_eq!(to_forget(&[99, 80, 60, 20], 130, 32), 2);
        // But not all for that.
        assert_eq!(to_forget(&[150, 98, 90], 130, 32), 1);
        // A last message that is long needs all the room that there is.
        assert_eq!(to_forget(&[150, 128, 120], 130, 32), 2);
    }

    #[test]
    fn a_cut_is_told_with_what_helps() {
        let notice = cut_notice(LengthLimit::Context);
        assert!(notice.contains("the context is full: raise -c"), "{notice}");
    }
}
