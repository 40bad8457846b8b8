//! The entities of the publisher and those of this process, as one set. A uid that both define differently is refused,
//! naming both (PC2012): neither can be trusted over the other. Pure.

use policies_engine::{Diagnostic, EntitySet};
use std::sync::Arc;

/// Services, methods, routes and workloads of both; what both say alike is said once.
pub(crate) fn merge(published: &EntitySet, own: &EntitySet) -> Result<EntitySet, Vec<Diagnostic>> {
    let mut found = Vec::new();
    let trust_domain = match (&published.trust_domain, &own.trust_domain) {
        (Some(theirs), Some(ours)) if theirs != ours => {
            let message =
                format!("the publisher belongs to trust domain `{theirs}`, this process to `{ours}`");
            found.push(about(message).help("follow a publisher of the same trust domain"));
            None
        }
        (theirs, ours) => ours.clone().or_else(|| theirs.clone()),
    };
    let merged = EntitySet {
        trust_domain,
        services: both("Service", &published.services, &own.services, |entity| &entity.name, &mut found),
        methods: both("Method", &published.methods, &own.methods, |entity| &entity.id, &mut found),
        routes: both("Route", &published.routes, &own.routes, |entity| &entity.name, &mut found),
        workloads: both("Workload", &published.workloads, &own.workloads, |entity| &entity.id, &mut found),
        // `entities.json` is the publisher's alone.
        extra: published.extra.clone(),
    };
    if found.is_empty() { Ok(merged) } else { Err(found) }
}

fn both<T: Clone + PartialEq>(
    kind: &str,
    published: &[T],
    own: &[T],
    id: fn(&T) -> &String,
    found: &mut Vec<Diagnostic>,
) -> Vec<T> {
    let known: std::collections::HashMap<&str, &T> =
        published.iter().map(|entity| (id(entity).as_str(), entity)).collect();
    let mut all = published.to_vec();
    for entity in own {
        match known.get(id(entity).as_str()) {
            None => all.push(entity.clone()),
            Some(theirs) if *theirs == entity => {}
            Some(_) => {
                let message = format!(
                    "`{kind}::\"{}\"` comes from two sources: the publisher and the configuration of this process",
                    id(entity)
                );
                found.push(about(message).help("give one of them another name, or write both alike"));
            }
        }
    }
    all.sort_by(|a, b| id(a).cmp(id(b)));
    all
}

fn about(message: String) -> Diagnostic {
    Diagnostic::about("PC2012", &Arc::from("publisher"), message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use policies_engine::{RouteEntity, ServiceEntity, WorkloadEntity};

    fn set(routes: &[(&str, &str)]) -> EntitySet {
        let route = |(name, service): &(&str, &str)| RouteEntity {
            name: (*name).to_owned(),
            service: (*service).to_owned(),
            sensitivity: None,
        };
        EntitySet {
            trust_domain: Some("example.org".to_owned()),
            routes: routes.iter().map(route).collect(),
            ..EntitySet::default()
        }
    }

    #[test]
    fn st7_entities_of_both_sides_are_one_set_and_equal_ones_are_one() {
        let published = EntitySet {
            services: vec![ServiceEntity { name: "orders".to_owned(), ..ServiceEntity::default() }],
            workloads: vec![WorkloadEntity {
                id: "spiffe://example.org/web".to_owned(),
                ..WorkloadEntity::default()
            }],
            extra: Some(serde_json::json!([])),
            ..set(&[("b", "orders"), ("shared", "orders")])
        };
        let own = set(&[("a", "orders"), ("shared", "orders")]);
        let merged = merge(&published, &own).unwrap();
        let names: Vec<_> = merged.routes.iter().map(|route| route.name.as_str()).collect();
        assert_eq!(names, ["a", "b", "shared"]);
        assert_eq!(
            (merged.services, merged.workloads),
            (published.services.clone(), published.workloads.clone())
        );
        assert_eq!(merged.extra, published.extra);
        assert_eq!(merge(&published, &EntitySet::default()).unwrap().routes, published.routes);
    }

    #[test]
    fn st7_a_uid_that_both_sides_define_differently_is_refused_naming_both() {
        let found = merge(&set(&[("home", "orders")]), &set(&[("home", "admin"), ("x", "y")])).unwrap_err();
        let said: Vec<_> = found.iter().map(|found| (found.code, &*found.message)).collect();
        assert_eq!(
            said,
            [(
                "PC2012",
                "`Route::\"home\"` comes from two sources: the publisher and the configuration of this process"
            )]
        );
    }

    #[test]
    fn a_publisher_of_another_trust_domain_is_refused() {
        let own = EntitySet { trust_domain: Some("other.test".to_owned()), ..EntitySet::default() };
        let found = merge(&set(&[]), &own).unwrap_err();
        assert!(
            found.iter().any(
                |found| found.message.contains("`example.org`") && found.message.contains("`other.test`")
            )
        );
    }
}
