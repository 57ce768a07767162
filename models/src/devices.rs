//! What this machine can compute on.

use crate::engine::available_memory_bytes;
use llama_cpp_2::{LlamaBackendDeviceType, list_llama_ggml_backend_devices};
use serde::{Deserialize, Serialize};

/// One device that ggml found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// ggml's name of it, as `CPU` or `CUDA0`.
    pub name: String,
    /// What it is, as `NVIDIA Jetson Orin`.
    pub description: String,
    /// The ggml backend that drives it.
    pub backend: String,
    /// Its kind.
    pub kind: DeviceKind,
    /// Memory that can be had now, in bytes; 0 where the device does not say. For CPUs what the
    /// system could hand out without swapping.
    pub memory_free_bytes: u64,
    /// All its memory, in bytes; 0 where the device does not say.
    pub memory_total_bytes: u64,
}

/// What kind of device it is (`ggml_backend_dev_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceKind {
    /// The processor.
    Cpu,
    /// A library that speeds the processor up (BLAS, AMX).
    Accelerator,
    /// A graphics card with memory of its own.
    Gpu,
    /// A graphics unit that shares the processor's memory.
    Igpu,
    /// Something newer than this program.
    Unknown,
}

/// The devices of the compiled-in and loaded backends, in ggml's order.
pub fn devices() -> Vec<Device> {
    let available = available_memory_bytes();
    list_llama_ggml_backend_devices()
        .into_iter()
        .map(|device| {
            let kind = kind(device.device_type);
            let free = match (kind, available) {
                // ggml takes the pages that hold nothing at all; caches can be had too.
                (DeviceKind::Cpu, Some(available)) => available,
                _ => device.memory_free as u64,
            };
            Device {
                name: device.name,
                description: device.description,
                backend: device.backend,
                kind,
                memory_free_bytes: free,
                memory_total_bytes: device.memory_total as u64,
            }
        })
        .collect()
}

fn kind(kind: LlamaBackendDeviceType) -> DeviceKind {
    match kind {
        LlamaBackendDeviceType::Cpu => DeviceKind::Cpu,
        LlamaBackendDeviceType::Accelerator => DeviceKind::Accelerator,
        LlamaBackendDeviceType::Gpu => DeviceKind::Gpu,
        LlamaBackendDeviceType::IntegratedGpu => DeviceKind::Igpu,
        LlamaBackendDeviceType::Unknown => DeviceKind::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_is_always_there() {
        let devices = devices();
        assert!(
            devices.iter().any(|d| d.kind == DeviceKind::Cpu),
            "{devices:?}"
        );
    }
}
