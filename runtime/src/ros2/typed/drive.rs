//! Commands of the default model as velocities (geometry_msgs/Twist).
//!
//! | command | velocity | for |
//! |---|---|---|
//! | drive | `linear.x`: the speed, backwards negative | metres / speed |
//! | turn | `angular.z`: half a radian a second, right negative | angle / that |
//! | wait | 0 | its seconds |
//! | stop | 0 | |
//! | speed | the speed of drives from now on, else 0.2 m/s | |
//!
//! What nobody said (speed of a drive, of a turn) is as much as the limits allow, what was said is not
//! changed: beyond the limits nothing is published, and so with any other command.

use std::sync::Arc;

use serde_json::{Value, json};

use super::checked;
use super::motion::TimedMessage;
use crate::config::Ros2Topic;
use crate::error::{Result, Ros2Error};
use crate::ros2::types::Types;

/// The only type that is made of commands.
const TWIST: &str = "geometry_msgs/msg/Twist";

/// Metres per second of a drive, and radians per second of a turn, where nobody said another.
const SPEED: f64 = 0.2;
const TURN_RATE: f64 = 0.5;

/// Makes velocities of commands.
#[derive(Clone)]
pub(super) struct Driver {
    types: Arc<Types>,
    topic: Ros2Topic,
    /// What was said of it.
    speed: Option<f64>,
}

impl Driver {
    /// # Errors
    /// Other topics than one of velocities, limits that do not allow to stand still.
    pub(super) fn new(types: &Arc<Types>, topics: &[Ros2Topic]) -> Result<Self> {
        let [topic] = topics else {
            let why = "the default model knows one topic: name one, or another model (-m)";
            return Err(Ros2Error::topic(&topics[1].name, why).into());
        };
        let driver = Self::of(types, topic);
        driver.map_err(|why| Ros2Error::topic(&topic.name, why).into())
    }

    /// For one topic.
    ///
    /// # Errors
    /// As [`Driver::new`].
    pub(super) fn of(types: &Arc<Types>, topic: &Ros2Topic) -> Result<Self, String> {
        if topic.ty != TWIST {
            return Err(format!(
                "the default model knows {TWIST} only: name another model (-m)"
            ));
        }
        if let Err(why) = checked(types, topic, &twist(0.0, 0.0)) {
            return Err(format!("{why}, and each motion ends with 0"));
        }
        Ok(Self {
            types: types.clone(),
            topic: topic.clone(),
            speed: None,
        })
    }

    /// The parts of a motion, the last of which stands still; or why there is none.
    pub(super) fn parts(&mut self, answer: &str) -> Result<Vec<TimedMessage>, String> {
        let answer = answer.trim();
        if !answer.starts_with('{') {
            return Err(answer.to_owned());
        }
        let command: Value = serde_json::from_str(answer)
            .map_err(|error| format!("the answer is no command (n_predict too small?): {error}"))?;
        let actions = command["actions"].as_array();
        let (mut parts, mut speed) = (Vec::new(), self.speed);
        for action in actions.into_iter().flatten() {
            let kind = action["action"].as_str().unwrap_or_default();
            let number = |field: &str| {
                let number = action[field].as_f64();
                number.ok_or_else(|| format!("`{kind}` without a number of {field}"))
            };
            match kind {
                "drive" => parts.push(self.drive(number("metres")?, speed)?),
                "turn" => parts.push(self.turn(number("degrees")?.to_radians())?),
                "wait" => parts.push(self.part(0.0, 0.0, number("seconds")?)?),
                "stop" => parts.push(self.part(0.0, 0.0, 0.0)?),
                "speed" => {
                    let said = number("metres_per_second")?;
                    self.part(said, 0.0, 0.0)?;
                    speed = Some(said);
                }
                other => return Err(format!("`{other}` is no motion that {TWIST} can say")),
            }
        }
        self.speed = speed;
        let end = self.part(0.0, 0.0, 0.0)?;
        match (parts.last(), speed) {
            (None, Some(speed)) => Err(format!("drives are at {speed} m/s from now on")),
            (None, None) => Err("a command without actions".to_owned()),
            (Some(last), _) if *last == end => Ok(parts),
            (Some(_), _) => {
                parts.push(end);
                Ok(parts)
            }
        }
    }

    fn drive(&self, metres: f64, speed: Option<f64>) -> Result<TimedMessage, String> {
        if metres == 0.0 {
            return self.part(0.0, 0.0, 0.0);
        }
        let speed = match speed {
            Some(speed) => speed,
            None => self.at_most("linear.x", metres, SPEED)?,
        };
        if speed <= 0.0 {
            return Err(format!(
                "at {speed} m/s a drive has no end: say another speed"
            ));
        }
        self.part(speed.copysign(metres), 0.0, metres.abs() / speed)
    }

    fn turn(&self, radians: f64) -> Result<TimedMessage, String> {
        if radians == 0.0 {
            return self.part(0.0, 0.0, 0.0);
        }
        let rate = self.at_most("angular.z", radians, TURN_RATE)?;
        self.part(0.0, rate.copysign(radians), radians.abs() / rate)
    }

    /// `usual`, or the most that the limit of this field allows in this direction.
    fn at_most(&self, field: &str, direction: f64, usual: f64) -> Result<f64, String> {
        let limit = self.topic.limits.iter().find(|limit| limit.field == field);
        let most = match limit {
            Some(limit) if direction < 0.0 => -limit.min,
            Some(limit) => limit.max,
            None => usual,
        };
        match usual.min(most) {
            speed if speed > 0.0 => Ok(speed),
            _ => Err(format!(
                "the limit of {field} leaves nothing in this direction"
            )),
        }
    }

    fn part(&self, linear: f64, angular: f64, seconds: f64) -> Result<TimedMessage, String> {
        let message = checked(&self.types, &self.topic, &twist(linear, angular))?;
        Ok(TimedMessage { message, seconds })
    }
}

fn twist(linear: f64, angular: f64) -> Value {
    json!({ "linear": { "x": linear }, "angular": { "z": angular } })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::Ros2Limit;

    fn driver(limits: &[(&str, f64, f64)]) -> Driver {
        let types = Arc::new(Types::embedded().unwrap());
        let limit = |&(field, min, max): &(&str, f64, f64)| Ros2Limit {
            field: field.to_owned(),
            min,
            max,
        };
        let topic = Ros2Topic {
            name: "/cmd_vel".to_owned(),
            ty: TWIST.to_owned(),
            limits: limits.iter().map(limit).collect(),
        };
        Driver::new(&types, &[topic]).unwrap()
    }

    /// `linear.x`, `angular.z` and seconds of each part.
    fn parts(driver: &mut Driver, actions: Value) -> Result<Vec<[f64; 3]>, String> {
        let parts = driver.parts(&json!({ "actions": actions }).to_string())?;
        let number = |value: &Value| value.as_f64().unwrap();
        let of = |part: &TimedMessage| {
            let TimedMessage { message, seconds } = part;
            let (x, z) = (&message["linear"]["x"], &message["angular"]["z"]);
            [number(x), number(z), *seconds]
        };
        Ok(parts.iter().map(of).collect())
    }

    #[test]
    fn commands_are_velocities_for_their_time_and_end_still() {
        let mut driver = driver(&[("linear.x", -0.1, 0.5), ("angular.z", -1.0, 0.25)]);
        let end = [0.0; 3];
        let drive = |metres| json!({ "action": "drive", "metres": metres });
        let turn = |degrees| json!({ "action": "turn", "degrees": degrees });
        let speed = |v| json!({ "action": "speed", "metres_per_second": v });
        let all = parts(&mut driver, json!([drive(2), turn(-90), drive(-1)])).unwrap();
        let right = [0.0, -0.5, std::f64::consts::FRAC_PI_2 / 0.5];
        assert_eq!(all, [[0.2, 0.0, 10.0], right, [-0.1, 0.0, 10.0], end]);
        let all = parts(&mut driver, json!([turn(90)])).unwrap();
        assert_eq!(all[0], [0.0, 0.25, std::f64::consts::FRAC_PI_2 / 0.25]);
        let wait = json!({ "action": "wait", "seconds": 5 });
        let stop = json!({ "action": "stop" });
        assert_eq!(
            parts(&mut driver, json!([wait])).unwrap(),
            [[0.0, 0.0, 5.0], end]
        );
        for nothing in [stop, drive(0), turn(0)] {
            assert_eq!(parts(&mut driver, json!([nothing])).unwrap(), [end]);
        }
        let told = parts(&mut driver, json!([speed(0.4)])).unwrap_err();
        assert!(told.contains("0.4 m/s"), "{told}");
        let all = parts(&mut driver, json!([drive(2), speed(0.5), drive(2)])).unwrap();
        assert_eq!(all, [[0.4, 0.0, 5.0], [0.5, 0.0, 4.0], end]);
    }

    #[test]
    fn what_is_beyond_the_limits_or_no_motion_moves_nothing() {
        let mut driver = driver(&[("linear.x", 0.0, 0.5), ("angular.z", 0.0, 1.0)]);
        let drive = json!({ "action": "drive", "metres": 1 });
        for (actions, expected) in [
            (
                json!([{ "action": "drive", "metres": -1 }]),
                "leaves nothing",
            ),
            (
                json!([{ "action": "turn", "degrees": -90 }]),
                "leaves nothing",
            ),
            (
                json!([{ "action": "speed", "metres_per_second": 0.6 }, drive]),
                "linear.x: 0.6",
            ),
            (
                json!([{ "action": "speed", "metres_per_second": 0 }, drive]),
                "no end",
            ),
            (json!([drive, { "action": "photo" }]), "`photo`"),
            (json!([{ "action": "drive" }]), "without a number"),
            (json!([]), "without actions"),
        ] {
            let why = parts(&mut driver, actions).unwrap_err();
            assert!(why.contains(expected), "{why}");
        }
        assert_eq!(
            parts(&mut driver, json!([drive])).unwrap()[0][0],
            0.2,
            "no speed is kept"
        );
        let talk = driver.parts("A lidar measures distances.").unwrap_err();
        assert_eq!(talk, "A lidar measures distances.");
        assert!(driver.parts(r#"{"actions":[{"action":"dri"#).is_err());
    }
}
