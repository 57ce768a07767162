//! `jupiter devices`: what this machine can compute on.

use clap::Args;
use clap::builder::BoolishValueParser;
use jupiter_models::devices::{Device, devices};

use super::leave::ExitCode;
use super::output;
use super::table::{Align, bytes, markdown};

/// Flags of `devices`.
#[derive(Args, Debug)]
pub(crate) struct DevicesArgs {
    /// Print one JSON object per device
    #[arg(long, env = "JUPITER_JSON", value_parser = BoolishValueParser::new())]
    json: bool,
}

pub(crate) fn execute(args: &DevicesArgs) -> anyhow::Result<ExitCode> {
    let devices = devices();
    if args.json {
        devices.iter().try_for_each(output::json_line)?;
    } else {
        output::text(&table(&devices))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn table(devices: &[Device]) -> String {
    let columns = [
        ("device", Align::Left),
        ("description", Align::Left),
        ("backend", Align::Left),
        ("free", Align::Right),
        ("total", Align::Right),
    ];
    let memory = |n: u64| if n == 0 { "-".to_owned() } else { bytes(n) };
    let row = |device: &Device| {
        vec![
            device.name.clone(),
            device.description.clone(),
            device.backend.clone(),
            memory(device.memory_free_bytes),
            memory(device.memory_total_bytes),
        ]
    };
    markdown(&columns, &devices.iter().map(row).collect::<Vec<_>>())
}
