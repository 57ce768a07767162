//! A plan as people read it.

use std::fmt::Write;

use jupiter_actors::planning::chunks::PlannedChunks;
use jupiter_actors::planning::placement::{Objective, Plan, PlanRequest};
use jupiter_actors::planning::plan_file::MeasuredEntry;
use jupiter_actors::planning::profile::Cluster;

use super::table::{Align, bytes, markdown};

/// Nanoseconds in a millisecond.
const NS_PER_MS: f64 = 1e6;
/// Bits a second of a byte a millisecond, in millions.
const MBIT_PER_BYTES_PER_MS: f64 = 8.0 / 1000.0;
/// Chunks that are listed one by one.
const MAX_LISTED_CHUNKS: usize = 24;

/// The plan with its reasons; ends with a line break.
pub(crate) fn text(
    cluster: &Cluster,
    plan: &Plan,
    request: &PlanRequest,
    chunks: &PlannedChunks,
) -> String {
    let mut text = stages(cluster, plan, request);
    let hops = hops(cluster, plan);
    if !hops.is_empty() {
        let _ = write!(text, "\n{hops}");
    }
    let load = &request.load;
    let ttft_ms = chunks.ttft_ns as f64 / NS_PER_MS;
    let _ = writeln!(
        text,
        "\ntime to first token   {ttft_ms:.1} ms for {} tokens, in chunks of {}\n\
         time per token        {:.1} ms, after {} tokens{}\n\
         throughput            {:.1} tokens/s with {} micro-batches under way",
        load.prompt,
        chunk_list(&chunks.rows),
        plan.predicted.tbt_ms,
        load.context,
        match load.rows {
            1 => String::new(),
            n => format!(", {n} rows a step"),
        },
        plan.predicted.tps,
        plan.predicted.micro_batches,
    );
    text.push_str(&certainty(cluster));
    text.push_str(&alone(plan, request.objective, ttft_ms));
    for excluded in &plan.excluded {
        let _ = writeln!(text, "left out: {}: {}", excluded.node, excluded.reason);
    }
    text
}

fn stages(cluster: &Cluster, plan: &Plan, request: &PlanRequest) -> String {
    use Align::{Left, Right};
    let columns = [
        ("stage", Right),
        ("device", Left),
        ("layers", Left),
        ("weights", Right),
        ("KV", Right),
        ("buffers", Right),
        ("all", Right),
        ("free", Right),
    ];
    let rows = plan.placement.iter().enumerate().map(|(i, stage)| {
        let parts = request.memory.of_stage(cluster.model(), stage.layers);
        vec![
            i.to_string(),
            stage.node.to_string(),
            stage.layers.to_string(),
            bytes(parts.weights_bytes),
            bytes(parts.kv_bytes),
            bytes(parts.compute_bytes),
            bytes(stage.memory_bytes),
            bytes(stage.free_memory_bytes),
        ]
    });
    markdown(&columns, &rows.collect::<Vec<_>>())
}

/// The hops between the stages; empty for one stage.
fn hops(cluster: &Cluster, plan: &Plan) -> String {
    use Align::{Left, Right};
    let columns = [("hop", Left), ("RTT ms", Right), ("Mbit/s", Right)];
    let rows: Vec<Vec<String>> = plan
        .placement
        .windows(2)
        .filter_map(|pair| {
            let link = cluster.link_between(pair[0].device, pair[1].device)?;
            let back = cluster.link_between(pair[1].device, pair[0].device)?;
            Some(vec![
                format!("{} -> {}", link.from, link.to),
                format!("{:.2}", link.latency_ms + back.latency_ms),
                format!("{:.0}", link.bytes_per_ms * MBIT_PER_BYTES_PER_MS),
            ])
        })
        .collect();
    if rows.is_empty() {
        return String::new();
    }
    markdown(&columns, &rows)
}

/// How sure the measurements behind a plan are; empty for machines that are not there.
pub(crate) fn certainty(cluster: &Cluster) -> String {
    let mut text = String::new();
    for MeasuredEntry {
        node,
        noise,
        is_doubtful,
    } in MeasuredEntry::all(cluster)
    {
        let _ = if is_doubtful {
            writeln!(
                text,
                "how sure: {node} was busy while it was measured ({noise}): plan again when it is \
                 quiet"
            )
        } else {
            let percent = (100.0 * noise.spread).ceil().max(1.0);
            writeln!(text, "how sure: {node} was measured to within {percent} %")
        };
    }
    text
}

/// Whether one machine alone would be faster.
fn alone(plan: &Plan, objective: Objective, ttft_ms: f64) -> String {
    let Some(alone) = &plan.alone else {
        return "alone: the model fits on no single device\n".to_owned();
    };
    let node = &alone.node;
    if let [stage] = plan.placement.as_slice()
        && stage.node == *node
    {
        return format!("alone: {node} computes everything, as no other device makes it faster\n");
    }
    let alone = &alone.predicted;
    let (what, with, without) = match objective {
        Objective::Ttft => ("first token", ttft_ms, alone.ttft_ms),
        Objective::Tbt => ("token", plan.predicted.tbt_ms, alone.tbt_ms),
        Objective::Throughput => ("token", 1e3 / plan.predicted.tps, 1e3 / alone.tps),
    };
    format!(
        "alone: {node} would need {without:.1} ms a {what}, {:.2} times the plan's; {:.1} ms per \
         token of one stream against {:.1}\n",
        without / with,
        alone.tbt_ms,
        plan.predicted.tbt_ms
    )
}

fn chunk_list(rows: &[u32]) -> String {
    let list: Vec<String> = rows
        .iter()
        .take(MAX_LISTED_CHUNKS)
        .map(u32::to_string)
        .collect();
    let more = match rows.len().checked_sub(MAX_LISTED_CHUNKS) {
        Some(n) if n > 0 => format!(", and {n} more"),
        _ => String::new(),
    };
    format!("{}{more}", list.join(" "))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use jupiter_actors::planning::devices_file::DevicesFile;
    use jupiter_actors::planning::profile::DeviceProfile;
    use jupiter_models::profile::Noise;

    use super::*;

    /// Two devices of a file, as if they had been measured with this noise.
    fn measured(noises: [Noise; 2]) -> Cluster {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../configs/devices-jetson-mixed-100mbps.toml"
        );
        let file: DevicesFile = toml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let described = file.into_cluster().unwrap();
        let devices = described
            .devices()
            .iter()
            .zip(noises)
            .map(|(device, noise)| {
                let mut device: DeviceProfile = device.clone();
                device.compute.noise = noise;
                device
            });
        let links = [(0, 1), (1, 0)].map(|(a, b)| described.link_between(a, b).unwrap());
        Cluster::new(described.model().clone(), devices.collect(), &links, None).unwrap()
    }

    #[test]
    fn a_plan_says_how_sure_its_measurements_are() {
        let quiet = Noise {
            spread: 0.031,
            ..Noise::default()
        };
        let busy = Noise {
            waited: 0.38,
            ..quiet
        };
        let text = certainty(&measured([quiet, busy]));
        let (first, second) = text.split_once('\n').unwrap();
        assert!(first.ends_with("was measured to within 4 %"), "{text}");
        assert!(
            second.contains("waited 38 % of the time for a core"),
            "{text}"
        );
        assert!(
            second.trim_end().ends_with("plan again when it is quiet"),
            "{text}"
        );
        assert_eq!(certainty(&measured([Noise::default(); 2])), "");
    }
}
