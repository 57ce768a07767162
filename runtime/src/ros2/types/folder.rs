//! Interface files of a robot's own packages.

use std::fs;
use std::path::{Path, PathBuf};

use super::{TypeError, Types};
use crate::text_file;

/// What the node itself speaks: its robots have to mean the same, so that definitions of a robot's own do not
/// take its place.
const SPOKEN: [&str; 8] = [
    "jupiter_msgs/",
    "builtin_interfaces/",
    "service_msgs/",
    "action_msgs/",
    "rcl_interfaces/",
    "unique_identifier_msgs/",
    "std_msgs/msg/String",
    "std_srvs/srv/Trigger",
];

/// The kinds of files, which are the names of their folders too.
const KINDS: [&str; 3] = ["msg", "srv", "action"];

impl Types {
    /// Adds what a package's folder has, or a folder of packages (`/opt/ros/jazzy/share`). What is known
    /// already is replaced, but for what the node speaks itself; where that is another definition, it is said.
    ///
    /// # Errors
    /// A folder without interfaces, a file that cannot be read or used.
    pub(in crate::ros2) fn add_folder(&mut self, folder: &Path) -> Result<(), TypeError> {
        let wrong = |why: String| TypeError::Folder {
            folder: folder.display().to_string(),
            why,
        };
        let folder = fs::canonicalize(folder).map_err(|error| wrong(error.to_string()))?;
        let packages = match is_package(&folder) {
            true => vec![folder],
            false => children(&folder).map_err(|error| wrong(error.to_string()))?,
        };
        let (mut n_files, mut others) = (0, Vec::new());
        for package in packages.iter().filter(|package| is_package(package)) {
            for kind in KINDS {
                for file in children(&package.join(kind)).unwrap_or_default() {
                    if file.extension().is_some_and(|ending| ending == kind) {
                        let name = [package.file_name(), file.file_stem()].map(|name| {
                            let name = name.unwrap_or_default();
                            name.to_string_lossy().into_owned()
                        });
                        let text = text_file::read(&file);
                        let text = text.map_err(|error| wrong(format!("{}: {error}", name[1])))?;
                        n_files += 1;
                        let name = format!("{}/{kind}/{}", name[0], name[1]);
                        if !SPOKEN.iter().any(|spoken| name.starts_with(spoken)) {
                            self.add(&name, &text)?;
                        } else if self.is_other(&name, &text) {
                            others.push(name);
                        }
                    }
                }
            }
        }
        if let Some(first) = others.first() {
            tracing::warn!(
                "ROS 2 interfaces: {first} ({} in all) is not as this node speaks it: robots with that definition \
                 hear nothing of it there",
                others.len()
            );
        }
        match n_files {
            0 => Err(wrong(
                "no .msg, .srv or .action file of a package is there".to_owned(),
            )),
            _ => Ok(()),
        }
    }

    /// Whether the node speaks what a file defines, and defines it otherwise.
    fn is_other(&self, name: &str, text: &str) -> bool {
        let mut theirs = Types::default();
        let is_read = theirs.add(name, text).is_ok();
        let differs = |(name, fields): (&String, &Vec<_>)| self.messages.get(name) != Some(fields);
        !is_read || theirs.messages.iter().any(differs)
    }
}

/// What is in a folder, in order.
fn children(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder)?;
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort_unstable();
    Ok(paths)
}

fn is_package(folder: &Path) -> bool {
    KINDS.iter().any(|kind| folder.join(kind).is_dir())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn packages_of_a_robot_are_added_or_named_with_what_is_wrong() {
        let share = tempfile::tempdir().unwrap();
        let mut types = Types::embedded().unwrap();
        let error = types.add_folder(share.path()).unwrap_err().to_string();
        assert!(error.contains("no .msg"), "{error}");
        let package = share.path().join("arm_msgs");
        fs::create_dir_all(package.join("msg")).unwrap();
        fs::create_dir_all(package.join("srv")).unwrap();
        fs::write(
            package.join("msg/Grip.msg"),
            "float32 force\ngeometry_msgs/Pose at\n",
        )
        .unwrap();
        fs::write(package.join("msg/Grip.json"), "no definition").unwrap();
        fs::write(package.join("srv/Home.srv"), "---\nbool ok\n").unwrap();
        for folder in [share.path(), &package] {
            let mut types = Types::embedded().unwrap();
            types.add_folder(folder).unwrap();
            assert_eq!(types.fields("arm_msgs/msg/Grip").unwrap().len(), 2);
            assert!(types.hash("arm_msgs/srv/Home").is_ok());
        }
        let own = share.path().join("std_msgs/msg");
        fs::create_dir_all(&own).unwrap();
        fs::write(own.join("String.msg"), "1bool (\n").unwrap();
        fs::write(own.join("Bool.msg"), "int32 data\n").unwrap();
        types.add_folder(share.path()).unwrap();
        let embedded = Types::embedded().unwrap();
        for (name, is_kept) in [("std_msgs/msg/String", true), ("std_msgs/msg/Bool", false)] {
            let (old, new) = (embedded.fields(name), types.fields(name));
            assert_eq!(old.unwrap() == new.unwrap(), is_kept, "{name}");
        }
        fs::write(package.join("msg/Grip.msg"), "float32 force\nGripper at\n").unwrap();
        types.add_folder(share.path()).unwrap();
        let error = types.check().unwrap_err().to_string();
        assert!(error.contains("arm_msgs/msg/Gripper"), "{error}");
        let missing = share.path().join("missing");
        assert!(
            types
                .add_folder(&missing)
                .unwrap_err()
                .to_string()
                .contains("missing")
        );
    }
}
