//! `jupiter devices`: what this machine can compute on.

use clap::Args;
use clap::builder::BoolishValueParser;
use jupiter_models::devices::{Device, devices};
use jupiter_models::kernels::{self, KernelChoice, KernelReport};

use super::leave::ExitCode;
use super::output;
use super::table::{Align, bytes, markdown};

/// Flags of `devices`.
#[derive(Args, Debug)]
pub(crate) struct DevicesArgs {
    /// Whose kernels compute on this machine: ours (auto) or llama.cpp's (off)
    #[arg(
        long,
        env = "JUPITER_KERNELS",
        value_name = "auto|off",
        default_value = "auto"
    )]
    kernels: KernelChoice,

    /// Print one JSON object per device
    #[arg(long, env = "JUPITER_JSON", value_parser = BoolishValueParser::new())]
    json: bool,
}

pub(crate) fn execute(args: &DevicesArgs) -> anyhow::Result<ExitCode> {
    let kernels = kernels::report(args.kernels)?;
    let devices = devices();
    if args.json {
        devices.iter().try_for_each(output::json_line)?;
        output::json_line(&serde_json::json!({ "kernels": kernels }))?;
    } else {
        output::text(&table(&devices))?;
        output::text(&format!("\n{}\n", line(&kernels)))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Whose kernels compute what on the processor.
fn line(kernels: &KernelReport) -> String {
    match (&kernels.instructions, &kernels.reason) {
        (Some(set), _) => format!(
            "kernels: {set} for {}; llama.cpp's for all else",
            kernels.types.join(", ")
        ),
        (None, reason) => format!(
            "kernels: llama.cpp's for all ({})",
            reason.as_deref().unwrap_or("ours cannot be used")
        ),
    }
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
