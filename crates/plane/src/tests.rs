//! The two protocols without sockets, and folders.

use crate::delta::Delta;
use crate::folder::Folder;
use crate::kinds::{KINDS, Kind, by_path, by_url};
use crate::plane::What;
use crate::sotw::Sotw;
use crate::world::World;
use nuncio_api::envoy::config::cluster::v3::Cluster;
use nuncio_api::envoy::config::endpoint::v3::ClusterLoadAssignment;
use nuncio_api::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use nuncio_api::google::rpc::Status;
use prost::{Message, Name};

fn cluster(name: &str) -> Cluster {
    Cluster { name: name.to_owned(), ..Default::default() }
}
fn kind<M: Name>() -> &'static Kind {
    by_url(&M::type_url()).expect("a kind")
}
fn quiet(_: &'static Kind, _: What) {}

fn names(bytes: &[u8]) -> (Vec<String>, String, String) {
    let r = DiscoveryResponse::decode(bytes).expect("a response");
    let all = r.resources.iter().map(|a| crate::world::name_in(&a.value)).collect();
    (all, r.nonce, r.version_info)
}

#[test]
fn methods_and_types_are_known() {
    assert_eq!(
        by_path("/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"),
        Some((None, true))
    );
    let clusters = by_path("/envoy.service.cluster.v3.ClusterDiscoveryService/StreamClusters");
    assert_eq!(clusters, Some((Some(kind::<Cluster>()), false)));
    assert_eq!(by_path("/envoy.service.cluster.v3.ClusterDiscoveryService/FetchClusters"), None);
    assert_eq!(by_url("type.googleapis.com/google.protobuf.Empty"), None);
    assert!(KINDS.iter().all(|k| by_url(&k.url()) == Some(k)));
}

#[test]
fn versions_follow_from_what_is_there() {
    let (mut a, mut b) = (World::default(), World::default());
    let k = kind::<Cluster>();
    for name in ["x", "y"] {
        assert!(a.put(&cluster(name)));
    }
    for name in ["y", "z", "x"] {
        assert!(b.put(&cluster(name)));
    }
    assert_ne!(a.version(k), b.version(k));
    assert!(b.remove(&k.url(), "z") && !b.remove(&k.url(), "z"));
    assert_eq!(a.version(k), b.version(k));
    assert!(!a.put(&cluster("x")), "nothing new");
    let only = vec![(k.url(), "y".to_owned(), cluster("y").encode_to_vec().into())];
    assert!(a.replace(only.clone()) && !a.replace(only));
    assert_eq!(a.names(k).collect::<Vec<_>>(), ["y"]);
}

#[test]
fn a_world_is_sent_and_sent_again_when_it_has_changed() {
    let (mut world, mut s) = (World::default(), Sotw::default());
    world.put(&cluster("a"));
    let url = Cluster::type_url();
    let mut ask = DiscoveryRequest { type_url: url.clone(), ..Default::default() };
    let first =
        s.request(&ask.encode_to_vec(), None, &world, &mut quiet).expect("served").expect("a response");
    let (all, nonce, version) = names(&first);
    assert_eq!(all, ["a"]);
    (ask.response_nonce, ask.version_info) = (nonce, version.clone());
    let mut told = vec![];
    let acked = s.request(&ask.encode_to_vec(), None, &world, &mut |_, w| told.push(w));
    assert_eq!((acked, told), (Ok(None), vec![What::Accepted { version }]));
    assert!(s.push(&world, &mut quiet).is_empty(), "nothing has changed");

    world.put(&cluster("b"));
    let pushed = s.push(&world, &mut quiet);
    let (all, nonce, version) = names(&pushed[0]);
    assert_eq!(all, ["a", "b"]);
    // An answer to the response before is of no interest; a refusal is told.
    assert_eq!(s.request(&ask.encode_to_vec(), None, &world, &mut |_, w| panic!("{w:?}")), Ok(None));
    ask.response_nonce = nonce;
    ask.error_detail = Some(Status { message: "no good".to_owned(), ..Default::default() });
    let mut told = vec![];
    assert_eq!(s.request(&ask.encode_to_vec(), None, &world, &mut |_, w| told.push(w)), Ok(None));
    assert_eq!(told, [What::Refused { version, why: "no good".to_owned() }]);
    assert!(s.request(b"\xff", None, &world, &mut quiet).is_err());
}

#[test]
fn names_of_which_none_is_there_wait() {
    let (mut world, mut s) = (World::default(), Sotw::default());
    let mut ask = DiscoveryRequest { type_url: ClusterLoadAssignment::type_url(), ..Default::default() };
    ask.resource_names = vec!["e".to_owned(), "f".to_owned()];
    assert_eq!(s.request(&ask.encode_to_vec(), None, &world, &mut quiet), Ok(None));
    assert!(s.push(&world, &mut quiet).is_empty());
    world.put(&ClusterLoadAssignment { cluster_name: "e".to_owned(), ..Default::default() });
    world.put(&ClusterLoadAssignment { cluster_name: "foreign".to_owned(), ..Default::default() });
    assert_eq!(names(&s.push(&world, &mut quiet)[0]).0, ["e"]);
}

fn delta(bytes: Option<Vec<u8>>) -> (Vec<String>, Vec<String>) {
    let r = DeltaDiscoveryResponse::decode(&*bytes.expect("a response")).expect("one");
    (r.resources.into_iter().map(|r| r.name).collect(), r.removed_resources)
}

#[test]
fn a_delta_stream_sends_what_has_changed() {
    let (mut world, mut d) = (World::default(), Delta::default());
    world.put(&cluster("a"));
    world.put(&cluster("b"));
    let known = world.get(kind::<Cluster>(), "b").expect("b").version.clone();
    let mut ask = DeltaDiscoveryRequest { type_url: Cluster::type_url(), ..Default::default() };
    ask.initial_resource_versions.insert("b".to_owned(), known);
    ask.initial_resource_versions.insert("old".to_owned(), "1".to_owned());
    let first = d.request(&ask.encode_to_vec(), None, &world, &mut quiet).expect("served");
    assert_eq!(delta(first), (vec!["a".to_owned()], vec!["old".to_owned()]));
    let ack = DeltaDiscoveryRequest {
        type_url: Cluster::type_url(),
        response_nonce: "1".to_owned(),
        ..Default::default()
    };
    let mut told = vec![];
    assert_eq!(d.request(&ack.encode_to_vec(), None, &world, &mut |_, w| told.push(w)), Ok(None));
    assert!(matches!(told[..], [What::Accepted { .. }]), "{told:?}");
    world.put(&cluster("c"));
    world.remove(&Cluster::type_url(), "a");
    assert_eq!(delta(d.push(&world, &mut quiet).pop()), (vec!["c".to_owned()], vec!["a".to_owned()]));
    assert!(d.push(&world, &mut quiet).is_empty());
    // By name: what is not there is said to be gone, what is asked for again comes again.
    let url = ClusterLoadAssignment::type_url();
    let by_name = |names: &[&str]| DeltaDiscoveryRequest {
        type_url: url.clone(),
        resource_names_subscribe: names.iter().map(|n| (*n).to_owned()).collect(),
        ..Default::default()
    };
    world.put(&ClusterLoadAssignment { cluster_name: "e".to_owned(), ..Default::default() });
    for _ in 0..2 {
        let r = d.request(&by_name(&["e", "f"]).encode_to_vec(), None, &world, &mut quiet).expect("served");
        assert_eq!(delta(r), (vec!["e".to_owned()], vec!["f".to_owned()]));
    }
    let less = DeltaDiscoveryRequest {
        type_url: url.clone(),
        resource_names_unsubscribe: vec!["e".to_owned()],
        ..Default::default()
    };
    assert_eq!(d.request(&less.encode_to_vec(), None, &world, &mut quiet), Ok(None));
    world.remove(&url, "e");
    assert!(d.push(&world, &mut quiet).is_empty(), "nobody wants it");
}

#[test]
fn a_folder_is_read_when_it_changes_and_bad_files_keep_what_they_held() {
    let path = std::env::temp_dir().join(format!("nuncio-plane-{}", std::process::id()));
    std::fs::create_dir_all(&path).expect("a folder");
    let write = |name: &str, text: &str| std::fs::write(path.join(name), text).expect("written");
    let one = |name: &str| {
        format!(
            "resources:\n- {{'@type': type.googleapis.com/envoy.config.cluster.v3.Cluster, name: {name}}}\n"
        )
    };
    let mut folder = Folder::new(&path);
    write("a.yaml", &one("a"));
    write("b.yaml", &one("b"));
    write("note.txt", "not read");
    let names = |f: crate::folder::Found| {
        let all = f.resources.map(|all| all.into_iter().map(|r| r.1).collect::<Vec<_>>());
        (all, f.problems)
    };
    assert_eq!(names(folder.look()), (Some(vec!["a".to_owned(), "b".to_owned()]), vec![]));
    assert_eq!(names(folder.look()), (None, vec![]));
    write(
        "a.yaml",
        "resources:\n- {'@type': type.googleapis.com/envoy.config.cluster.v3.Cluster, nome: a}\n",
    );
    let (all, problems) = names(folder.look());
    assert_eq!(all, None, "it stays as it was");
    assert!(problems.len() == 1 && problems[0].contains("a.yaml"), "{problems:?}");
    write("b.yaml", &one("a"));
    let (all, problems) = names(folder.look());
    assert_eq!(all, Some(vec!["a".to_owned()]));
    assert!(problems.len() == 1 && problems[0].contains("already in another file"), "{problems:?}");
    std::fs::remove_file(path.join("a.yaml")).expect("removed");
    assert_eq!(names(folder.look()), (Some(vec!["a".to_owned()]), vec![]));
    write("c.yaml", "resources:\n- {'@type': type.googleapis.com/google.protobuf.Empty}\n");
    let (_, problems) = names(folder.look());
    assert!(problems[0].contains("nothing that a control plane brings"), "{problems:?}");
    std::fs::remove_dir_all(&path).expect("removed");
}
