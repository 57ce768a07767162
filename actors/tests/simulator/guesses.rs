//! Tokens that are guessed ahead.

use jupiter_actors::simulator::{Guesses, Outcome, Scenario};

use super::common::{at_once, jetsons, run, scenario};

fn guessed(acceptance: f64, n_streams: u32) -> Outcome {
    run(&Scenario {
        guesses: Some(Guesses {
            acceptance,
            draft_max: None,
            in_flight: None,
            seed: 1,
        }),
        ..scenario(jetsons(), n_streams, at_once(n_streams as usize, 16, 200))
    })
}

#[test]
fn right_guesses_make_a_stream_faster_and_wrong_ones_hardly_slower() {
    let plain = run(&scenario(jetsons(), 1, at_once(1, 16, 200)));
    let ratio = |outcome: &Outcome| plain.elapsed_ns as f64 / outcome.elapsed_ns as f64;
    let (right, often, never) = (guessed(1.0, 1), guessed(0.8, 1), guessed(0.0, 1));
    assert!(
        ratio(&right) > ratio(&often),
        "{} {}",
        ratio(&right),
        ratio(&often)
    );
    assert!(ratio(&often) > 2.0, "{}", ratio(&often));
    assert!(ratio(&never) > 0.93, "{}", ratio(&never));
    assert_eq!((plain.n_rows_in_vain, right.n_tokens()), (0, 200));
    assert!(often.n_rows_in_vain > 0 && often.n_rows_in_vain < often.n_rows);
    // All tokens but the first are judged in rows; what was cancelled in time was not computed.
    assert!(often.n_rows >= 16 + 199);
}

#[test]
fn many_streams_leave_little_room_for_guesses() {
    let plain = run(&scenario(jetsons(), 8, at_once(8, 16, 200)));
    let guessed = guessed(0.8, 8);
    assert_eq!(guessed.n_tokens(), plain.n_tokens());
    let ratio = plain.elapsed_ns as f64 / guessed.elapsed_ns as f64;
    assert!((0.95..2.5).contains(&ratio), "{ratio}");
}
