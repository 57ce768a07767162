//! The texts that come of prompts whatever happens, and what came of them.

use jupiter_models::Token;
use jupiter_models::draw::splitmix;
use tokio::sync::mpsc::UnboundedReceiver;

use super::world::{HEADS_LUCK, N_CTX, N_HEADS};
use crate::message::HeadGuess;
use crate::request::{Completion, StreamEvent};

/// A token that depends on all before it, and whether it ends the text.
pub(super) fn next_token(tokens: &[Token]) -> (Token, bool) {
    let mix = |hash: u64, token: &Token| (hash ^ *token as u64).wrapping_mul(0x0100_0000_01b3);
    let hash = tokens.iter().fold(0xcbf2_9ce4_8422_2325, mix) >> 20;
    ((hash % 1000) as Token, hash % 29 == 0)
}

/// What the heads say after `text`: two tokens for each place, of which the first is right more
/// often than the second.
pub(super) fn guesses(mut text: Vec<Token>) -> Vec<Vec<HeadGuess>> {
    let guess = |token, probability| HeadGuess { token, probability };
    let mut head = || {
        let (right, _) = next_token(&text);
        let luck = splitmix(right as u64 + text.len() as u64) % 256;
        text.push(right);
        match luck < HEADS_LUCK {
            true => vec![guess(right, 0.6), guess(1001, 0.2)],
            false => vec![guess(1002, 0.6), guess(right, 0.2)],
        }
    };
    (0..N_HEADS).map(|_| head()).collect()
}

/// The text that a request has to bring, whatever happens.
pub(super) fn expected(prompt: &[Token], n: u32) -> Vec<Token> {
    let mut tokens = prompt.to_vec();
    for _ in 0..n.min(N_CTX - prompt.len() as u32) {
        let (token, is_eog) = next_token(&tokens);
        if is_eog {
            break;
        }
        tokens.push(token);
    }
    tokens.split_off(prompt.len())
}

/// The tokens of a stream and its last event.
pub(super) fn read(
    events: &mut UnboundedReceiver<StreamEvent>,
) -> (Vec<Token>, Option<StreamEvent>) {
    let mut tokens = Vec::new();
    while let Ok(event) = events.try_recv() {
        match event {
            StreamEvent::Token(token) => tokens.push(token),
            StreamEvent::End(_) => {}
            end => return (tokens, Some(end)),
        }
    }
    (tokens, None)
}

#[track_caller]
pub(super) fn assert_text(
    events: &mut UnboundedReceiver<StreamEvent>,
    prompt: &[Token],
    n: u32,
) -> Completion {
    let (tokens, end) = read(events);
    assert_eq!(tokens, expected(prompt, n));
    let Some(StreamEvent::Done(done)) = end else {
        panic!("{end:?}")
    };
    assert_eq!(done.n_eval as usize, tokens.len());
    done
}

/// A prompt of `n_prompt` tokens whose text fills the context.
pub(super) fn endless(n_prompt: usize, seed: Token) -> Vec<Token> {
    let mut prompts = (seed..).map(|i| vec![i; n_prompt]);
    let is_endless =
        |prompt: &Vec<Token>| expected(prompt, N_CTX).len() + n_prompt == N_CTX as usize;
    prompts.find(is_endless).unwrap()
}

#[track_caller]
pub(super) fn assert_error(events: &mut UnboundedReceiver<StreamEvent>, part: &str) {
    let (_, end) = read(events);
    let Some(StreamEvent::Failed(error)) = end else {
        panic!("{end:?}")
    };
    assert!(error.to_string().contains(part), "{error}");
}
