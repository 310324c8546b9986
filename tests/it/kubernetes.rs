//! `docs/kubernetes`: manifests that an API server would take, and a configuration that the gateway takes.

#![allow(clippy::unwrap_used)] // Helpers of tests.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use nexus::{
    cli::check::{CheckArgs, run},
    clock::{Clock, SystemClock},
    sources::{FileFacts, MemorySources},
    tls::dev,
};
use serde_json::Value;

/// Every document of a page.
fn documents(page: &str) -> Vec<Value> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs").join(page);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.split("\n---\n").map(|document| serde_saphyr::from_str(document).unwrap_or_else(|error| panic!("{page}: {error}"))).collect()
}

fn document(page: &str) -> Value {
    let mut documents = documents(page);
    assert_eq!(documents.len(), 1, "{page}");
    documents.remove(0)
}

fn pod() -> Value {
    document("kubernetes/deployment.yaml")["spec"]["template"]["spec"].take()
}

/// Where each volume is mounted, by its name.
fn mounts() -> BTreeMap<String, String> {
    let pod = pod();
    let mounts = pod["containers"][0]["volumeMounts"].as_array().unwrap().clone();
    mounts.iter().map(|mount| (mount["name"].as_str().unwrap().to_owned(), mount["mountPath"].as_str().unwrap().to_owned())).collect()
}

/// A pod as the kubelet makes it: links through `..data`, 0440 for root and the pod's own group.
fn machine() -> (PathBuf, MemorySources) {
    let config = document("kubernetes/configmap.yaml");
    let mounts = mounts();
    let path = PathBuf::from(&mounts["config"]).join("nexus.toml");
    let now = SystemClock.now();
    let names: Vec<String> = documents("kubernetes/certificate.yaml")[0]["spec"]["dnsNames"]
        .as_array()
        .unwrap()
        .iter()
        .map(|name| name.as_str().unwrap().to_owned())
        .collect();
    let minted = dev::mint(&names, now).unwrap();
    let facts = FileFacts { mode: 0o440, owner: 0, group: 65532, projected_volume: true, effective_user: 65532, group_is_ours: true };
    let mut sources = MemorySources::default().with_env("NEXUS_ADMIN_TOKEN", "0123456789abcdef").with_file_and_facts(
        &path,
        config["data"]["nexus.toml"].as_str().unwrap(),
        FileFacts { mode: 0o644, ..facts },
    );
    for (volume, certificate, key) in [
        ("server", &minted.server.certificate, minted.server.key.expose()),
        ("client", &minted.client.certificate, minted.client.key.expose()),
    ] {
        let folder = PathBuf::from(&mounts[volume]);
        sources = sources
            .with_file_and_facts(folder.join("tls.crt"), certificate.as_bytes(), facts)
            .with_file_and_facts(folder.join("tls.key"), key, facts)
            .with_file_and_facts(folder.join("ca.crt"), minted.ca.as_bytes(), facts);
    }
    (path, sources)
}

#[test]
fn the_configuration_passes_nexus_check_with_the_files_that_the_pod_has() {
    let (path, sources) = machine();
    let mut out = Vec::new();
    let code = run(&CheckArgs::default(), Some(path.clone()), &sources, &SystemClock, &mut out).unwrap();
    let said = String::from_utf8(out).unwrap();
    assert_eq!((code, said.as_str()), (0, format!("{}: good\n", path.display()).as_str()));
}

#[test]
fn what_the_pod_lacks_fails_the_same_check() {
    let (path, mut sources) = machine();
    let missing = PathBuf::from(&mounts()["client"]).join("tls.key");
    assert!(sources.files.remove(&missing).is_some());
    let mut out = Vec::new();
    let code = run(&CheckArgs::default(), Some(path), &sources, &SystemClock, &mut out).unwrap();
    let said = String::from_utf8(out).unwrap();
    assert!(code == 64 && said.contains("tls.key"), "{said}");
}

#[test]
fn the_pod_may_write_nowhere_and_reads_its_keys_alone() {
    let pod = pod();
    let container = &pod["containers"][0]["securityContext"];
    assert_eq!(container["readOnlyRootFilesystem"], true);
    assert_eq!(container["allowPrivilegeEscalation"], false);
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert!(pod["securityContext"]["fsGroup"].is_u64());
    for volume in pod["volumes"].as_array().unwrap().iter().filter(|volume| volume["secret"].is_object()) {
        // YAML 1.2 reads 0400 as decimal, and 1.1, which kubectl speaks, as octal.
        assert!([256, 400].contains(&volume["secret"]["defaultMode"].as_u64().unwrap()), "{volume}");
    }
    for mount in pod["containers"][0]["volumeMounts"].as_array().unwrap() {
        assert!(mount["subPath"].is_null(), "a subPath is never updated: {mount}");
        assert!(mount["readOnly"] == true || mount["name"] == "tmp", "{mount}");
    }
}

#[test]
fn probes_and_prometheus_ask_where_the_configuration_listens() {
    let (path, sources) = machine();
    let config = nexus::config::load(&path, &sources).config.unwrap();
    let admin = config.admin.unwrap();
    let pod = pod();
    let container = &pod["containers"][0];
    let port = |name: &str| {
        let ports = container["ports"].as_array().unwrap();
        ports.iter().find(|port| port["name"] == name).unwrap_or_else(|| panic!("no port {name}"))["containerPort"].as_u64().unwrap()
    };
    assert_eq!(port("admin"), u64::from(admin.listen_address.port()));
    assert_eq!(port("mcp"), u64::from(config.server.listen_address.port()));
    for (probe, path) in [("startupProbe", "/livez"), ("livenessProbe", "/livez"), ("readinessProbe", "/readyz")] {
        let asked = &container[probe]["httpGet"];
        assert_eq!((&asked["path"], &asked["port"], &asked["scheme"]), (&path.into(), &"admin".into(), &"HTTPS".into()), "{probe}");
    }
    let endpoint = &document("kubernetes/podmonitor.yaml")["spec"]["podMetricsEndpoints"][0];
    assert_eq!((&endpoint["path"], &endpoint["port"], &endpoint["scheme"]), (&"/metrics".into(), &"admin".into(), &"https".into()));
    assert_eq!(document("kubernetes/service.yaml")["spec"]["ports"][0]["targetPort"], "mcp");
    let grace = Duration::from_secs(pod["terminationGracePeriodSeconds"].as_u64().unwrap());
    assert!(grace > config.server.shutdown_grace, "the kubelet must not cut off what may still go on");
    assert!(config.mcp.upstreams.iter().any(|upstream| upstream.required), "readiness waits for something");
}

#[test]
fn labels_lead_from_every_selector_to_the_pod() {
    let labels = document("kubernetes/deployment.yaml")["spec"]["template"]["metadata"]["labels"].take();
    for selector in [
        document("kubernetes/deployment.yaml")["spec"]["selector"]["matchLabels"].take(),
        document("kubernetes/service.yaml")["spec"]["selector"].take(),
        document("kubernetes/podmonitor.yaml")["spec"]["selector"]["matchLabels"].take(),
    ] {
        assert_eq!(selector, labels);
    }
}

#[test]
fn certificates_go_into_the_secrets_that_are_mounted_and_have_the_names_that_are_called() {
    let secrets: Vec<_> = pod()["volumes"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|volume| volume["secret"]["secretName"].as_str().map(str::to_owned))
        .collect();
    let certificates = documents("kubernetes/certificate.yaml");
    let issued: Vec<_> = certificates.iter().map(|certificate| certificate["spec"]["secretName"].as_str().unwrap().to_owned()).collect();
    assert_eq!(issued, secrets);
    let (path, sources) = machine();
    let server = nexus::config::load(&path, &sources).config.unwrap().server;
    let names: Vec<_> = certificates[0]["spec"]["dnsNames"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(names.contains(&server.public_url.as_ref().unwrap().host_str().unwrap()));
    for host in &server.allowed_hosts {
        assert!(names.contains(&host.as_str()), "{host} is called, and not in the certificate");
    }
    let monitored = document("kubernetes/podmonitor.yaml")["spec"]["podMetricsEndpoints"][0]["tlsConfig"]["serverName"].take();
    assert!(names.contains(&monitored.as_str().unwrap()));
}

#[test]
fn the_rules_for_the_operator_are_those_for_prometheus() {
    let rules = document("prometheus/alerts.yaml");
    assert_eq!(document("kubernetes/prometheusrule.yaml")["spec"]["groups"], rules["groups"]);
    let mut severities = std::collections::BTreeSet::new();
    for rule in rules["groups"].as_array().unwrap().iter().flat_map(|group| group["rules"].as_array().unwrap()) {
        for key in ["alert", "expr"] {
            assert!(rule[key].is_string(), "{rule}");
        }
        for key in ["summary", "description", "runbook_url"] {
            assert!(rule["annotations"][key].is_string(), "{rule}");
        }
        severities.insert(rule["labels"]["severity"].as_str().unwrap().to_owned());
    }
    assert_eq!(severities.into_iter().collect::<Vec<_>>(), ["critical", "info", "warning"]);
}
