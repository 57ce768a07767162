//! Measured values that were checked: the only way to a plan.

use jupiter_models::profile::{Crowding, ModelProfile, RowCurve, to_ns};

use super::{DeviceProfile, LinkProfile};
use crate::NodeId;
use crate::planning::figure::Figure;
use crate::planning::{PlanError, Result};

/// The longest time taken for a measurement, 1000 s: longer ones are a broken clock, and sums of
/// shorter ones cannot overflow.
const MAX_MS: f64 = 1e6;
/// The dearest context taken for a measurement, for one row and token: a millionth of the above.
const MAX_CONTEXT_MS: f64 = 1.0;
/// More than a stage on the same machine takes from another one.
const MAX_CROWDING: f64 = 1000.0;
/// More bytes than any machine holds; sums over layers cannot overflow.
const MAX_BYTES: u64 = 1 << 50;
/// More layers than any model has.
pub(crate) const MAX_LAYERS: usize = 1024;
/// More distinct costs of layers than any model has.
const MAX_CLASSES: usize = 64;
/// Wider than any model.
const MAX_N_EMBD: u32 = 1 << 20;

/// A link, converted to whole nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Link {
    pub(crate) latency_ns: u64,
    pub(crate) bytes_per_ms: f64,
}

/// Where the Planner sits: latencies to and from each device, 0 for its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) to_ns: Vec<u64>,
    pub(crate) from_ns: Vec<u64>,
}

/// Profiles of a model, devices and all links between them that passed the checks.
#[derive(Clone, Debug)]
pub struct Cluster {
    model: ModelProfile,
    devices: Vec<DeviceProfile>,
    /// `links[from][to]`; none from a device to itself.
    links: Vec<Vec<Option<Link>>>,
    head: Option<Head>,
}

impl Cluster {
    /// Checks all values. `head` is the node of the Planner, one of the devices or not; without it
    /// the Planner is taken to sit beside the first stage, whichever that becomes.
    ///
    /// # Errors
    /// The first value that is missing, zero, negative, infinite or NaN, with its node and field;
    /// a pair of devices, or of a device and the head, without a link; two devices of one name; no
    /// device. Only latency and the costs of a step, of context and of the embedding may be zero:
    /// a clock may be too coarse to see them.
    pub fn new(
        model: ModelProfile,
        devices: Vec<DeviceProfile>,
        links: &[LinkProfile],
        head: Option<NodeId>,
    ) -> Result<Cluster> {
        let n_classes = check_model(&model)?;
        if devices.is_empty() {
            return Err(PlanError::NoDevice);
        }
        for (i, device) in devices.iter().enumerate() {
            if devices[..i].iter().any(|other| other.node == device.node) {
                return Err(PlanError::DuplicateNode(device.node.clone()));
            }
            check_device(device, n_classes)?;
        }
        for link in links {
            check_link(link)?;
        }
        let head = head.map(|node| find_head(&node, &devices, links));
        Ok(Cluster {
            links: link_matrix(&devices, links)?,
            head: head.transpose()?,
            model,
            devices,
        })
    }

    /// The model.
    pub fn model(&self) -> &ModelProfile {
        &self.model
    }

    /// The devices, in the order given.
    pub fn devices(&self) -> &[DeviceProfile] {
        &self.devices
    }

    /// Number of layers.
    pub fn n_layer(&self) -> usize {
        self.model.layers.len()
    }

    /// What was measured of the way between two devices; none from a device to itself.
    pub fn link_between(&self, from: usize, to: usize) -> Option<LinkProfile> {
        let link = self.link(from, to)?;
        Some(LinkProfile {
            from: self.devices[from].node.clone(),
            to: self.devices[to].node.clone(),
            latency_ms: link.latency_ns as f64 / 1e6,
            bytes_per_ms: link.bytes_per_ms,
        })
    }

    /// The same devices with the Planner on one of them.
    #[must_use]
    pub fn with_head_on(mut self, device: usize) -> Cluster {
        let latency_ns = |link: &Option<Link>| link.map_or(0, |link| link.latency_ns);
        self.head = Some(Head {
            to_ns: self.links[device].iter().map(latency_ns).collect(),
            from_ns: self
                .links
                .iter()
                .map(|to| latency_ns(&to[device]))
                .collect(),
        });
        self
    }

    pub(crate) fn link(&self, from: usize, to: usize) -> Option<Link> {
        self.links[from][to]
    }

    pub(crate) fn head(&self) -> Option<&Head> {
        self.head.as_ref()
    }
}

/// Checks the model and counts the cost classes of its layers.
fn check_model(model: &ModelProfile) -> Result<usize> {
    let bad = |field: String, got: String, expected| {
        Err(PlanError::BadModel {
            field,
            got,
            expected,
        })
    };
    if model.layers.is_empty() || model.layers.len() > MAX_LAYERS {
        let n_layer = model.layers.len().to_string();
        return bad("the number of layers".into(), n_layer, "1 to 1024");
    }
    for (il, layer) in model.layers.iter().enumerate() {
        let at = |field| format!("{field} of layer {il}");
        if layer.class >= MAX_CLASSES {
            return bad(at("class"), layer.class.to_string(), "0 to 63");
        }
        if layer.weight_bytes == 0 || layer.weight_bytes > MAX_BYTES {
            let got = layer.weight_bytes.to_string();
            return bad(at("weight_bytes"), got, "1 byte to 1 PiB");
        }
        if layer.kv_bytes_per_token > MAX_BYTES >> 20 {
            let got = layer.kv_bytes_per_token.to_string();
            return bad(at("kv_bytes_per_token"), got, "0 to 1 GiB");
        }
    }
    for (field, bytes) in [
        ("embedding_bytes", model.embedding_bytes),
        ("head_bytes", model.head_bytes),
        ("buffer_bytes", model.buffer_bytes),
    ] {
        if bytes > MAX_BYTES {
            return bad(field.into(), bytes.to_string(), "0 to 1 PiB");
        }
    }
    if model.n_embd == 0 || model.n_embd > MAX_N_EMBD {
        return bad("n_embd".into(), model.n_embd.to_string(), "1 to 2^20");
    }
    if !(model.bytes_per_value > 0.0 && model.bytes_per_value <= 8.0) {
        let got = Figure(model.bytes_per_value).to_string();
        return bad("bytes_per_value".into(), got, "more than 0, at most 8");
    }
    Ok(model.layers.iter().map(|l| l.class).max().unwrap_or(0) + 1)
}

fn check_device(device: &DeviceProfile, n_classes: usize) -> Result<()> {
    let bad = |field: String, got: String, expected| {
        Err(PlanError::BadDevice {
            node: device.node.clone(),
            field,
            got,
            expected,
        })
    };
    let compute = &device.compute;
    if compute.layers.len() < n_classes {
        let field = format!("layers[{}]", compute.layers.len());
        return bad(field, "missing".into(), "one profile a cost class");
    }
    for (class, layer) in compute.layers.iter().enumerate() {
        if let Some((field, got, expected)) = bad_curve(&layer.rows) {
            return bad(format!("layers[{class}].rows{field}"), got, expected);
        }
        for (field, ms) in [
            ("context_ms", layer.context_ms),
            ("tile_context_ms", layer.tile_context_ms),
        ] {
            if !(0.0..=MAX_CONTEXT_MS).contains(&ms) {
                let field = format!("layers[{class}].{field}");
                return bad(field, Figure(ms).to_string(), "0 to 1 ms");
            }
        }
    }
    if let Some((field, got, expected)) = bad_curve(&compute.head) {
        return bad(format!("head{field}"), got, expected);
    }
    for (field, ms) in [
        ("step_ms", compute.step_ms),
        ("embedding_ms", compute.embedding_ms),
    ] {
        if !(0.0..=MAX_MS).contains(&ms) {
            return bad(field.into(), Figure(ms).to_string(), "0 to 1000 s");
        }
    }
    if let Some((field, got, expected)) = bad_crowding(&compute.crowding) {
        return bad(format!("crowding{field}"), got, expected);
    }
    if device.free_memory_bytes == 0 || device.free_memory_bytes > MAX_BYTES {
        let got = device.free_memory_bytes.to_string();
        return bad("free_memory_bytes".into(), got, "1 byte to 1 PiB");
    }
    Ok(())
}

/// What is wrong with a crowding: field, value, what it may be.
fn bad_crowding(crowding: &Crowding) -> Option<(String, String, &'static str)> {
    let mut least = 0;
    for (i, point) in crowding.points.iter().enumerate() {
        if !(1.0..=MAX_CROWDING).contains(&point.times) {
            return Some((
                format!("[{i}].times"),
                Figure(point.times).to_string(),
                "1 to 1000",
            ));
        }
        if point.rows <= least {
            return Some((
                format!("[{i}].rows"),
                point.rows.to_string(),
                "more than the point before",
            ));
        }
        least = point.rows;
    }
    None
}

/// What is wrong with a curve: field, value, what it may be.
fn bad_curve(curve: &RowCurve) -> Option<(String, String, &'static str)> {
    let Some(first) = curve.points.first() else {
        return Some((String::new(), "missing".into(), "at least one point"));
    };
    if first.rows != 1 {
        let got = first.rows.to_string();
        return Some(("[0].rows".into(), got, "1: a lone row is measured first"));
    }
    for (i, point) in curve.points.iter().enumerate() {
        if !(point.ms > 0.0 && point.ms <= MAX_MS) {
            let got = Figure(point.ms).to_string();
            return Some((format!("[{i}].ms"), got, "more than 0, at most 1000 s"));
        }
        if i > 0 && point.rows <= curve.points[i - 1].rows {
            let got = point.rows.to_string();
            return Some((format!("[{i}].rows"), got, "more than the point before"));
        }
    }
    None
}

fn check_link(link: &LinkProfile) -> Result<()> {
    let bad = |field, got: f64, expected| {
        Err(PlanError::BadLink {
            from: link.from.clone(),
            to: link.to.clone(),
            field,
            got: Figure(got).to_string(),
            expected,
        })
    };
    if !(0.0..=MAX_MS).contains(&link.latency_ms) {
        return bad("latency_ms", link.latency_ms, "0 to 1000 s");
    }
    // One byte in 1000 s is as good as no link; the bound keeps transfer times finite.
    if !(link.bytes_per_ms >= 1.0 / MAX_MS && link.bytes_per_ms.is_finite()) {
        let expected = "a number above a millionth";
        return bad("bytes_per_ms", link.bytes_per_ms, expected);
    }
    Ok(())
}

fn missing_link(from: &NodeId, to: &NodeId) -> PlanError {
    PlanError::BadLink {
        from: from.clone(),
        to: to.clone(),
        field: "profile",
        got: "missing".into(),
        expected: "both directions of every pair",
    }
}

/// The links between devices. Those of other nodes do no harm.
fn link_matrix(devices: &[DeviceProfile], links: &[LinkProfile]) -> Result<Vec<Vec<Option<Link>>>> {
    let mut matrix = vec![vec![None; devices.len()]; devices.len()];
    let index = |node: &NodeId| devices.iter().position(|device| device.node == *node);
    for link in links {
        if let (Some(from), Some(to)) = (index(&link.from), index(&link.to)) {
            matrix[from][to] = Some(Link {
                latency_ns: to_ns(link.latency_ms),
                bytes_per_ms: link.bytes_per_ms,
            });
        }
    }
    for (from, row) in matrix.iter_mut().enumerate() {
        row[from] = None;
        for (to, link) in row.iter().enumerate() {
            if from != to && link.is_none() {
                return Err(missing_link(&devices[from].node, &devices[to].node));
            }
        }
    }
    Ok(matrix)
}

/// The ways between the head and each device.
fn find_head(head: &NodeId, devices: &[DeviceProfile], links: &[LinkProfile]) -> Result<Head> {
    let latency_ns = |from: &NodeId, to: &NodeId| {
        if from == to {
            return Ok(0);
        }
        // As between devices: of two profiles of one link the later one counts.
        let link = links
            .iter()
            .rfind(|link| link.from == *from && link.to == *to);
        link.map(|link| to_ns(link.latency_ms))
            .ok_or_else(|| missing_link(from, to))
    };
    let nodes = devices.iter().map(|device| &device.node);
    Ok(Head {
        to_ns: nodes
            .clone()
            .map(|node| latency_ns(head, node))
            .collect::<Result<_>>()?,
        from_ns: nodes
            .map(|node| latency_ns(node, head))
            .collect::<Result<_>>()?,
    })
}
