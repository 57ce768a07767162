//! Commands: one line of JSON with one to three actions, documented in `COMMANDS.md`.

mod phrases;
mod spoken;

use serde::{Deserialize, Serialize};

pub(crate) use spoken::spoken;

/// The grammar of a command line for llama.cpp's samplers (GBNF).
pub const GRAMMAR: &str = include_str!("../commands.gbnf");

/// Most actions of one command.
pub const MOST_ACTIONS: usize = 3;

/// A number of JSON that is written without a fraction when it has none.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
pub struct Number(pub f64);

impl Serialize for Number {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.fract() == 0.0 {
            serializer.serialize_i64(self.0 as i64)
        } else {
            serializer.serialize_f64(self.0)
        }
    }
}

/// A side or direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// To the left.
    Left,
    /// To the right.
    Right,
    /// To the ceiling.
    Up,
    /// To the floor.
    Down,
    /// Straight ahead.
    Ahead,
    /// To the back.
    Behind,
}

/// Open or closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Opening {
    /// Open.
    Open,
    /// Closed.
    Closed,
}

/// On or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Switch {
    /// On.
    On,
    /// Off.
    Off,
}

/// A named posture of the arm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pose {
    /// The position of rest.
    Home,
    /// Up.
    Raised,
    /// Down.
    Lowered,
    /// Folded for driving.
    Folded,
}

/// What the robot can tell about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Report {
    /// The charge of the battery.
    Battery,
    /// The place on the map.
    Position,
    /// Errors and the present task.
    Status,
}

/// One thing to do. Places, objects and targets are those of the grammar.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case", deny_unknown_fields)]
pub enum Action {
    /// Drives straight.
    Drive {
        /// Backwards is negative.
        metres: Number,
    },
    /// Turns on the spot.
    Turn {
        /// To the left is positive.
        degrees: Number,
    },
    /// Turns the camera.
    Look {
        /// Where to.
        direction: Direction,
    },
    /// Drives to a place on the map.
    GoTo {
        /// The place.
        place: String,
    },
    /// Drives onto the charging station.
    Dock {},
    /// Leaves the charging station.
    Undock {},
    /// Stops at once.
    Stop {},
    /// Takes an object.
    PickUp {
        /// The object.
        object: String,
    },
    /// Puts down what the gripper holds.
    PutDown {
        /// Where to.
        place: String,
    },
    /// Opens or closes the gripper.
    Gripper {
        /// The wanted state.
        state: Opening,
    },
    /// Moves the arm.
    Arm {
        /// The wanted pose.
        pose: Pose,
    },
    /// Moves the lifting platform.
    Platform {
        /// Height above its lowest position.
        centimetres: Number,
    },
    /// Sets the driving speed.
    Speed {
        /// The speed.
        metres_per_second: Number,
    },
    /// Waits.
    Wait {
        /// How long.
        seconds: Number,
    },
    /// Follows somebody.
    Follow {
        /// Whom.
        target: String,
    },
    /// Takes a photo.
    Photo {},
    /// Switches the light.
    Light {
        /// The wanted state.
        state: Switch,
    },
    /// Opens or closes the automatic door.
    Door {
        /// The wanted state.
        state: Opening,
    },
    /// Tells something about the robot.
    Report {
        /// What.
        what: Report,
    },
}

/// The whole line.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    actions: Vec<Action>,
}

/// Why a line is not a command.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// Not the JSON of the schema.
    #[error("not a command: {0}")]
    Json(#[from] serde_json::Error),
    /// None or too many.
    #[error("{0} actions: a command has 1 to {MOST_ACTIONS}")]
    Count(usize),
    /// A place, an object or a target that is not on the list.
    #[error("`{0}` is not on the list of its kind")]
    Unknown(String),
}

/// Reads a command line.
///
/// # Errors
/// Says what does not fit the schema of `COMMANDS.md`.
pub fn parse(line: &str) -> Result<Vec<Action>, CommandError> {
    let actions = serde_json::from_str::<Line>(line)?.actions;
    if !(1..=MOST_ACTIONS).contains(&actions.len()) {
        return Err(CommandError::Count(actions.len()));
    }
    for action in &actions {
        let (name, list) = match action {
            Action::GoTo { place } | Action::PutDown { place } => (place, phrases::PLACES),
            Action::PickUp { object } => (object, phrases::OBJECTS),
            Action::Follow { target } => (target, phrases::TARGETS),
            _ => continue,
        };
        if !list.contains(&name.as_str()) {
            return Err(CommandError::Unknown(name.clone()));
        }
    }
    Ok(actions)
}

/// Writes the command line: compact JSON as the grammar has it.
///
/// # Errors
/// Only for a number that is not finite.
pub fn write(actions: &[Action]) -> Result<String, CommandError> {
    Ok(serde_json::to_string(&Line {
        actions: actions.to_vec(),
    })?)
}
