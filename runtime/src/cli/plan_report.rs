//! A plan as people read it.

use std::fmt::Write;

use jupiter_actors::planning::chunks::PlannedChunks;
use jupiter_actors::planning::placement::{Objective, Plan, Request};
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
    request: &Request,
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
    text.push_str(&alone(plan, request.objective, ttft_ms));
    for excluded in &plan.excluded {
        let _ = writeln!(text, "left out: {}: {}", excluded.node, excluded.reason);
    }
    text
}

fn stages(cluster: &Cluster, plan: &Plan, request: &Request) -> String {
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
