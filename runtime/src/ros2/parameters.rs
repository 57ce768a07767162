//! The parameter services that each node of ROS 2 has. Ours are read only: what a node is started with
//! stays.

use serde_json::{Value, json};
use std::sync::Arc;

use super::node::{Call, Node};
use crate::error::Result;

/// Types of `rcl_interfaces/msg/ParameterType`.
const NOT_SET: u8 = 0;
const INTEGER: u8 = 2;
const STRING: u8 = 4;

/// A parameter.
#[derive(Clone, Debug)]
pub(super) struct Parameter {
    pub(super) name: &'static str,
    pub(super) description: &'static str,
    /// A text or a whole number.
    pub(super) value: Value,
}

impl Parameter {
    fn kind(&self) -> u8 {
        match self.value {
            Value::String(_) => STRING,
            _ => INTEGER,
        }
    }

    /// `rcl_interfaces/msg/ParameterValue`.
    fn message(&self) -> Value {
        let field = match self.kind() {
            STRING => "string_value",
            _ => "integer_value",
        };
        json!({ "type": self.kind(), field: self.value })
    }
}

/// Offers the services under `node_name` (`/llm/jupiter`).
pub(super) fn serve(node: &mut Node, node_name: &str, parameters: Vec<Parameter>) -> Result<()> {
    let parameters = Arc::new(parameters);
    let handle = tokio::runtime::Handle::current();
    let services: [(&str, &'static str, Answer); 6] = [
        ("list_parameters", "rcl_interfaces/srv/ListParameters", list),
        ("get_parameters", "rcl_interfaces/srv/GetParameters", get),
        (
            "get_parameter_types",
            "rcl_interfaces/srv/GetParameterTypes",
            types,
        ),
        (
            "describe_parameters",
            "rcl_interfaces/srv/DescribeParameters",
            describe,
        ),
        ("set_parameters", "rcl_interfaces/srv/SetParameters", set),
        (
            "set_parameters_atomically",
            "rcl_interfaces/srv/SetParametersAtomically",
            set_atomically,
        ),
    ];
    for (name, ty, answer) in services {
        let (parameters, handle) = (parameters.clone(), handle.clone());
        node.serve(&format!("{node_name}/{name}"), ty, move |call: Call| {
            let response = answer(&parameters, &call.request);
            handle.spawn_blocking(move || call.answer(&response));
        })?;
    }
    Ok(())
}

/// Answers a request.
type Answer = fn(&[Parameter], &Value) -> Value;

fn list(parameters: &[Parameter], request: &Value) -> Value {
    let prefixes: Vec<&str> = strings(&request["prefixes"]).collect();
    let names: Vec<&str> = (parameters.iter().map(|parameter| parameter.name))
        .filter(|name| prefixes.is_empty() || prefixes.contains(name))
        .collect();
    json!({ "result": { "names": names, "prefixes": [] } })
}

fn get(parameters: &[Parameter], request: &Value) -> Value {
    let value =
        |name| find(parameters, name).map_or(json!({ "type": NOT_SET }), Parameter::message);
    json!({ "values": strings(&request["names"]).map(value).collect::<Vec<_>>() })
}

fn types(parameters: &[Parameter], request: &Value) -> Value {
    let kind = |name| find(parameters, name).map_or(NOT_SET, Parameter::kind);
    json!({ "types": strings(&request["names"]).map(kind).collect::<Vec<_>>() })
}

fn describe(parameters: &[Parameter], request: &Value) -> Value {
    let describe = |name| match find(parameters, name) {
        Some(parameter) => json!({
            "name": name,
            "type": parameter.kind(),
            "description": parameter.description,
            "read_only": true,
        }),
        None => json!({ "name": name, "type": NOT_SET }),
    };
    json!({ "descriptors": strings(&request["names"]).map(describe).collect::<Vec<_>>() })
}

fn set(parameters: &[Parameter], request: &Value) -> Value {
    let refused = |parameter: &Value| refusal(parameters, parameter["name"].as_str());
    let said = request["parameters"].as_array();
    json!({ "results": said.into_iter().flatten().map(refused).collect::<Vec<_>>() })
}

fn set_atomically(parameters: &[Parameter], request: &Value) -> Value {
    json!({ "result": refusal(parameters, request["parameters"][0]["name"].as_str()) })
}

/// `rcl_interfaces/msg/SetParametersResult`.
fn refusal(parameters: &[Parameter], name: Option<&str>) -> Value {
    let name = name.unwrap_or_default();
    let reason = match find(parameters, name) {
        Some(_) => format!("{name} is read only: start jupiter with another one"),
        None => format!("there is no parameter {name}"),
    };
    json!({ "successful": false, "reason": reason })
}

fn find<'a>(parameters: &'a [Parameter], name: &str) -> Option<&'a Parameter> {
    parameters.iter().find(|parameter| parameter.name == name)
}

fn strings(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
}
