//! The conditions of one route, checked: canonical hosts, the shape of the path, everything else.

use std::sync::Arc;

use enforcer_codec::canonical::{self, Path};

use super::host::Pattern;
use super::matchers::Matchers;
use super::paths::Shape;
use super::pattern::Anchored;
use super::template::Template;
use crate::{GrpcMatch, PathSpec, RouteError, RouteSpec};

/// A checked route.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) listener: Option<Box<str>>,
    pub(super) hosts: Vec<Pattern>,
    /// Server names whose TLS goes through.
    pub(super) passes: Vec<Pattern>,
    pub(super) shape: Shape,
    pub(super) matchers: Arc<Matchers>,
}

impl Plan {
    /// # Errors
    /// Names the condition that has no meaning.
    pub(super) fn of(spec: &RouteSpec) -> Result<Self, RouteError> {
        let mut hosts = Vec::with_capacity(spec.matches.hosts.len().max(1));
        for host in &spec.matches.hosts {
            let pattern = Pattern::parse(host)
                .ok_or_else(|| RouteError::Host { route: spec.name.clone(), host: host.clone() })?;
            if !hosts.contains(&pattern) {
                hosts.push(pattern);
            }
        }
        if hosts.is_empty() {
            hosts.push(Pattern::Any);
        }
        let grpc_error = |cause| RouteError::Grpc { route: spec.name.clone(), cause };
        let shape = match (&spec.matches.path, &spec.matches.grpc) {
            (PathSpec::Any, Some(grpc)) => {
                rpc(grpc).ok_or_else(|| grpc_error("the grpc names are malformed"))?
            }
            (_, Some(_)) => return Err(grpc_error("grpc and a path exclude each other")),
            (path, None) => shape(path).map_err(|(path, cause)| RouteError::Path {
                route: spec.name.clone(),
                path,
                cause,
            })?,
        };
        Ok(Self {
            listener: spec.listener.as_deref().map(Into::into),
            hosts,
            passes: spec.passes.iter().filter_map(|name| Pattern::parse(name)).collect(),
            shape,
            matchers: Arc::new(Matchers::compile(spec)?),
        })
    }

    /// True when calls of this registered method can match the route.
    pub(super) fn offers(&self, method: &str) -> bool {
        self.shape.takes(&format!("/{method}")) && self.matchers.allows_method("POST")
    }
}

fn rpc(grpc: &GrpcMatch) -> Option<Shape> {
    let method = grpc.method.as_deref();
    let path = format!("/{}/{}", grpc.service, method.unwrap_or("Any"));
    enforcer_codec::grpc::service_and_method(&path)?;
    Some(match method {
        Some(_) => Shape::Exact(path.into()),
        None => Shape::Prefix([grpc.service.as_str().into()].into()),
    })
}

/// # Errors
/// What was written, and what is wrong with it.
fn shape(path: &PathSpec) -> Result<Shape, (String, String)> {
    let (written, shape) = match path {
        PathSpec::Any => return Ok(Shape::Any),
        PathSpec::Exact(path) => (path, canonical(path).map(|()| Shape::Exact(path.as_str().into()))),
        PathSpec::Prefix(prefix) => (prefix, canonical(prefix).map(|()| below(prefix))),
        PathSpec::Template(text) => (text, Template::parse(text).and_then(named)),
        PathSpec::Regex { pattern, priority } => {
            (pattern, Anchored::compile(pattern).map(|pattern| Shape::Regex(pattern, *priority)))
        }
    };
    shape.map_err(|cause| (written.clone(), cause))
}

/// `/` is any path, so that it ranks with those that say nothing.
fn below(prefix: &str) -> Shape {
    let segments: Box<[Box<str>]> =
        prefix.split('/').filter(|segment| !segment.is_empty()).map(Into::into).collect();
    if segments.is_empty() { Shape::Any } else { Shape::Prefix(segments) }
}

fn named(template: Template) -> Result<Shape, String> {
    if template.names().next().is_none() {
        return Err("it names no segment; write it as an exact path".to_owned());
    }
    Ok(Shape::Template(template))
}

fn canonical(path: &str) -> Result<(), String> {
    match canonical::path(path.as_bytes()) {
        Ok(Path::Canonical(_)) => Ok(()),
        Ok(Path::Other { canonical, .. }) => Err(format!("it is not canonical; write `{canonical}`")),
        Err(flaw) => Err(flaw.to_string()),
    }
}
