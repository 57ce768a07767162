//! What kind of device this is, for people and for telling which are interchangeable.

use crate::devices::{DeviceKind, devices};

/// Where boards such as a Jetson or a Raspberry Pi say what they are.
const BOARD: &str = "/proc/device-tree/model";
/// Where Linux describes the processor.
const CPU: &str = "/proc/cpuinfo";

/// The board or processor, its cores, and its graphics units, as `AMD EPYC 7B13, 2 cores`. Two
/// devices that are called the same compute alike. Never empty.
pub fn device_kind() -> String {
    let read = |path| std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let board = read(BOARD).unwrap_or_default();
    let cpuinfo = read(CPU).unwrap_or_default();
    let n_cores = std::thread::available_parallelism().map_or(1, usize::from);
    let gpus: Vec<String> = devices()
        .into_iter()
        .filter(|device| matches!(device.kind, DeviceKind::Gpu | DeviceKind::Igpu))
        .map(|device| device.description)
        .collect();
    describe(&board, &cpuinfo, n_cores, &gpus)
}

fn describe(board: &str, cpuinfo: &str, n_cores: usize, gpus: &[String]) -> String {
    let name = Some(clean(board))
        .filter(|board| !board.is_empty())
        .or_else(|| cpu_name(cpuinfo))
        .unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    let cores = if n_cores == 1 { "core" } else { "cores" };
    let mut kind = format!("{name}, {n_cores} {cores}");
    for gpu in gpus.iter().map(|gpu| clean(gpu)) {
        kind.push_str(", ");
        kind.push_str(&gpu);
    }
    kind
}

/// The processor by `model name` (x86 and most ARM), else by `Model` or `Hardware` (older ARM).
fn cpu_name(cpuinfo: &str) -> Option<String> {
    ["model name", "Model", "Hardware"].iter().find_map(|key| {
        let mut lines = cpuinfo.lines().filter_map(|line| line.split_once(':'));
        let (_, value) = lines.find(|(name, _)| name.trim() == *key)?;
        Some(clean(value)).filter(|value| !value.is_empty())
    })
}

/// One line without control characters (the device tree ends in a zero) and doubled blanks.
fn clean(text: &str) -> String {
    let words = text.split(|c: char| c.is_whitespace() || c.is_control());
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boards_and_processors_are_named_and_nothing_is_empty() {
        let x86 = "processor\t: 0\nmodel\t\t: 1\nmodel name\t: AMD EPYC  7B13\n";
        assert_eq!(describe("", x86, 2, &[]), "AMD EPYC 7B13, 2 cores");
        let jetson = "NVIDIA Jetson Xavier NX Developer Kit\0";
        let arm = "model name\t: ARMv8 Processor rev 0 (v8l)\n";
        assert_eq!(
            describe(jetson, arm, 6, &["Xavier".into()]),
            "NVIDIA Jetson Xavier NX Developer Kit, 6 cores, Xavier"
        );
        assert_eq!(
            describe("", "Hardware\t: BCM2835\nmodel name\t: \n", 1, &[]),
            "BCM2835, 1 core"
        );
        let unknown = describe("\0", "", 4, &[]);
        assert_eq!(unknown, format!("{}, 4 cores", std::env::consts::ARCH));
        assert!(device_kind().contains(" core"));
    }
}
