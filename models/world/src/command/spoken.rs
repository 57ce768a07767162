//! Spoken commands, and the JSON that answers them.

use super::phrases as say;
use super::{Action, Direction, Number, Opening, Pose, Report, Switch};
use crate::Check;
use crate::draw::{Draw, upper_first};
use crate::example::Asked;
use crate::held_out::{Subset, held};

/// How many kinds of action [`draw_action`] knows.
const ACTIONS: usize = 19;

/// An action, what its `{x}` says, and the ways to say it.
struct Drawn {
    action: Action,
    name: &'static str,
    x: String,
    phrases: &'static [&'static str],
}

/// A command of one to three different actions.
pub(crate) fn spoken(part: Subset, draw: &mut Draw) -> Option<Asked> {
    let count = match part {
        // One action alone is no combination.
        Subset::NewCell => 2 + draw.weighted(&[60, 40]),
        Subset::Training | Subset::NewPhrasing => 1 + draw.weighted(&[45, 35, 20]),
    };
    let mut drawn: Vec<Drawn> = Vec::new();
    for _ in 0..count {
        let next = draw_action(draw);
        if drawn.iter().any(|d| d.name == next.name) {
            return None;
        }
        drawn.push(next);
    }
    let names: Vec<&str> = drawn.iter().map(|d| d.name).collect();
    let held_names = count > 1 && held(&["command", &names.join(",")]);
    let fits = match part {
        Subset::Training => !held_names,
        Subset::NewPhrasing => true,
        Subset::NewCell => held_names,
    };
    if !fits {
        return None;
    }
    let user = sentence(&drawn, part, draw);
    let actions: Vec<Action> = drawn.into_iter().map(|d| d.action).collect();
    let line = super::write(&actions).ok()?;
    let check = Check::Command {
        actions: serde_json::to_value(&actions).ok()?,
    };
    Some(Asked::new(user, line, check))
}

/// The actions in one sentence; of a new phrasing, one action's is new.
fn sentence(drawn: &[Drawn], part: Subset, draw: &mut Draw) -> String {
    let new = draw.below(drawn.len());
    let mut phrases = Vec::new();
    for (place, drawn) in drawn.iter().enumerate() {
        let part = if place == new { part } else { Subset::Training };
        let phrase = drawn.phrases[part.free_phrasing(draw, drawn.phrases.len())];
        phrases.push(phrase.replace("{x}", &called(&drawn.x, draw)));
    }
    let opener = say::OPENERS[Subset::Training.free_phrasing(draw, say::OPENERS.len())];
    let fits = !is_question(&phrases[0]) || !opener.contains("you") && !opener.contains("go ");
    let opener = if fits && draw.chance(50) { opener } else { "" };
    let mut text = opener.to_owned();
    for (place, phrase) in phrases.iter().enumerate() {
        if place > 0 {
            text += say::JOINERS[Subset::Training.free_phrasing(draw, say::JOINERS.len())];
        }
        text += phrase;
    }
    let asks = ["can ", "could ", "would "];
    let asks = asks.iter().any(|word| opener.contains(word)) || is_question(&phrases[0]);
    if draw.chance(18) {
        text += say::CLOSERS[Subset::Training.free_phrasing(draw, say::CLOSERS.len())];
    }
    text.push(if asks { '?' } else { '.' });
    draw.typed(upper_first(&text))
}

/// Whether somebody asks for a report instead of ordering one.
fn is_question(phrase: &str) -> bool {
    let first = phrase.split(' ').next();
    let words = [
        "how", "what", "where", "which", "are", "is", "do", "at", "any",
    ];
    first.is_some_and(|first| words.contains(&first)) && !phrase.starts_with("do not")
}

/// A place or an object by its own name, or by another.
fn called(name: &str, draw: &mut Draw) -> String {
    let others = say::SYNONYMS.iter().filter(|(usual, _)| *usual == name);
    let others: Vec<_> = others.map(|&(_, other)| other).collect();
    match draw.pick(&others) {
        Some(other) if draw.chance(30) => (*other).to_owned(),
        _ => name.to_owned(),
    }
}

/// One action of all kinds, each as likely as the others.
// Long: a table, an arm for each action.
fn draw_action(draw: &mut Draw) -> Drawn {
    let first = draw.below(2) == 0;
    let none = String::new();
    let named = |action, name, x, phrases| Drawn {
        action,
        name,
        x,
        phrases,
    };
    match draw.below(ACTIONS) {
        0 => drive(draw, first),
        1 => turn(draw, first),
        2 => look(draw),
        3 => {
            let place = one(draw, say::PLACES);
            named(
                Action::GoTo {
                    place: place.clone(),
                },
                "go_to",
                place,
                say::GO_TO,
            )
        }
        4 => named(Action::Dock {}, "dock", none, say::DOCK),
        5 => named(Action::Undock {}, "undock", none, say::UNDOCK),
        6 => named(Action::Stop {}, "stop", none, say::STOP),
        7 => {
            let object = one(draw, say::OBJECTS);
            named(
                Action::PickUp {
                    object: object.clone(),
                },
                "pick_up",
                object,
                say::PICK_UP,
            )
        }
        8 => {
            let place = one(draw, say::PLACES);
            named(
                Action::PutDown {
                    place: place.clone(),
                },
                "put_down",
                place,
                say::PUT_DOWN,
            )
        }
        9 => {
            let (state, phrases) = if first {
                (Opening::Open, say::GRIPPER_OPEN)
            } else {
                (Opening::Closed, say::GRIPPER_CLOSED)
            };
            named(Action::Gripper { state }, "gripper", none, phrases)
        }
        10 => {
            let (pose, phrases) = [
                (Pose::Home, say::ARM_HOME),
                (Pose::Raised, say::ARM_RAISED),
                (Pose::Lowered, say::ARM_LOWERED),
                (Pose::Folded, say::ARM_FOLDED),
            ][draw.below(4)];
            named(Action::Arm { pose }, "arm", none, phrases)
        }
        11 => {
            let value = 5 * (1 + draw.below(12));
            let x = quantity(draw, 2 * value, "centimetre");
            let centimetres = Number(value as f64);
            named(
                Action::Platform { centimetres },
                "platform",
                x,
                say::PLATFORM,
            )
        }
        12 => speed(draw),
        13 => {
            let value =
                [1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 40, 45, 50, 60][draw.below(17)];
            let x = quantity(draw, 2 * value, "second");
            named(
                Action::Wait {
                    seconds: Number(value as f64),
                },
                "wait",
                x,
                say::WAIT,
            )
        }
        14 => {
            let target = one(draw, say::TARGETS);
            named(
                Action::Follow {
                    target: target.clone(),
                },
                "follow",
                target,
                say::FOLLOW,
            )
        }
        15 => named(Action::Photo {}, "photo", none, say::PHOTO),
        16 => {
            let (state, phrases) = if first {
                (Switch::On, say::LIGHT_ON)
            } else {
                (Switch::Off, say::LIGHT_OFF)
            };
            named(Action::Light { state }, "light", none, phrases)
        }
        17 => {
            let (state, phrases) = if first {
                (Opening::Open, say::DOOR_OPEN)
            } else {
                (Opening::Closed, say::DOOR_CLOSED)
            };
            named(Action::Door { state }, "door", none, phrases)
        }
        _ => {
            let (what, phrases) = [
                (Report::Battery, say::REPORT_BATTERY),
                (Report::Position, say::REPORT_POSITION),
                (Report::Status, say::REPORT_STATUS),
            ][draw.below(3)];
            named(Action::Report { what }, "report", none, phrases)
        }
    }
}

/// Half a metre to 20 metres; short ways are said more often.
fn drive(draw: &mut Draw, forward: bool) -> Drawn {
    let halves = if draw.chance(50) {
        1 + draw.below(10)
    } else {
        1 + draw.below(40)
    };
    let (sign, phrases) = if forward {
        (0.5, say::DRIVE_FORWARD)
    } else {
        (-0.5, say::DRIVE_BACKWARD)
    };
    let x = quantity(draw, halves, "metre");
    let metres = Number(sign * halves as f64);
    Drawn {
        action: Action::Drive { metres },
        name: "drive",
        x,
        phrases,
    }
}

/// 15 to 180 degrees.
fn turn(draw: &mut Draw, left: bool) -> Drawn {
    if draw.chance(25) {
        return plain_turn(draw);
    }
    let value = 15 * (1 + draw.below(12));
    let (sign, phrases) = if left {
        (1.0, say::TURN_LEFT)
    } else {
        (-1.0, say::TURN_RIGHT)
    };
    let x = quantity(draw, 2 * value, "degree");
    let degrees = Number(sign * value as f64);
    Drawn {
        action: Action::Turn { degrees },
        name: "turn",
        x,
        phrases,
    }
}

/// Around, or a quarter where nobody says how far.
fn plain_turn(draw: &mut Draw) -> Drawn {
    let (degrees, phrases) = [
        (180.0, say::TURN_AROUND),
        (90.0, say::TURN_LEFT_PLAIN),
        (-90.0, say::TURN_RIGHT_PLAIN),
    ][draw.below(3)];
    Drawn {
        action: Action::Turn {
            degrees: Number(degrees),
        },
        name: "turn",
        x: String::new(),
        phrases,
    }
}

fn look(draw: &mut Draw) -> Drawn {
    let ways: [(Direction, &[&str]); 6] = [
        (Direction::Left, &["left", "to the left"]),
        (Direction::Right, &["right", "to the right"]),
        (Direction::Up, &["up", "upwards"]),
        (Direction::Down, &["down", "downwards"]),
        (Direction::Ahead, &["ahead", "straight ahead"]),
        (Direction::Behind, &["behind", "to the back"]),
    ];
    let (direction, words) = ways[draw.below(ways.len())];
    let x = one(draw, words);
    Drawn {
        action: Action::Look { direction },
        name: "look",
        x,
        phrases: say::LOOK,
    }
}

/// 0.1 to 1.5 metres per second.
fn speed(draw: &mut Draw) -> Drawn {
    let tenths = 1 + draw.below(15);
    let value = tenths as f64 / 10.0;
    let x = if tenths.is_multiple_of(5) {
        quantity(draw, tenths / 5, "metre")
    } else {
        format!("{value} {}", unit(draw, "metre", true))
    };
    let metres_per_second = Number(value);
    let action = Action::Speed { metres_per_second };
    Drawn {
        action,
        name: "speed",
        x: x + " per second",
        phrases: say::SPEED,
    }
}

fn one(draw: &mut Draw, items: &[&str]) -> String {
    draw.pick(items)
        .map_or_else(String::new, |item| (*item).to_owned())
}

/// "one and a half metres" or "1.5 metres", of a number of halves.
fn quantity(draw: &mut Draw, halves: usize, name: &str) -> String {
    let unit = unit(draw, name, halves > 2);
    let (whole, half) = (halves / 2, halves % 2 == 1);
    if draw.chance(45) {
        return if half {
            format!("{whole}.5 {unit}")
        } else {
            format!("{whole} {unit}")
        };
    }
    match (whole, half) {
        (0, _) => format!("half a {unit}"),
        (_, true) => format!("{} and a half {unit}", spelled(whole)),
        (_, false) => format!("{} {unit}", spelled(whole)),
    }
}

/// The unit, in one of eight the American way.
fn unit(draw: &mut Draw, name: &str, plural: bool) -> String {
    let american = name.ends_with("metre") && draw.below(8) == 0;
    let name = if american {
        name.replace("metre", "meter")
    } else {
        name.to_owned()
    };
    if plural { name + "s" } else { name }
}

/// A number below 200 in words.
fn spelled(n: usize) -> String {
    const SMALL: [&str; 20] = [
        "zero",
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
        "ten",
        "eleven",
        "twelve",
        "thirteen",
        "fourteen",
        "fifteen",
        "sixteen",
        "seventeen",
        "eighteen",
        "nineteen",
    ];
    const TENS: [&str; 10] = [
        "", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety",
    ];
    match n {
        0..20 => SMALL[n].to_owned(),
        20..100 if n.is_multiple_of(10) => TENS[n / 10].to_owned(),
        20..100 => format!("{} {}", TENS[n / 10], SMALL[n % 10]),
        100 => "a hundred".to_owned(),
        _ => format!("a hundred and {}", spelled(n - 100)),
    }
}
