//! `/config_dump` of Envoy 1.40.0, through protobuf and back.

use nuncio_api::encode::encode;
use nuncio_api::json::{JsonOptions, write_json};
use nuncio_api::schema;
use nuncio_api::tree::parse_json;
use nuncio_api::validate::validate;

/// Lines in no order: Envoy prints maps in the order of a hash table.
fn lines(text: &str) -> Vec<&str> {
    let mut lines: Vec<_> = text.lines().map(|line| line.trim_end_matches(',')).collect();
    lines.sort_unstable();
    lines
}

#[test]
fn a_dump_comes_out_as_it_went_in() {
    let golden = include_str!("golden/config_dump.json");
    let schema = schema::message("envoy.admin.v3.ConfigDump").expect("a message");
    let tree = parse_json(golden).expect("JSON");
    let (wire, errors) = encode(schema, tree.root());
    assert!(errors.is_empty(), "{errors:?}");
    // Envoy's own dump breaks one rule: it prints the weight of a locality that has none as zero.
    let mut violations = validate(schema, &wire);
    violations.retain(|violation| {
        !violation.phrase.contains("LocalityLbEndpointsValidationError.LoadBalancingWeight")
    });
    assert_eq!(violations, []);

    let mut printed = String::new();
    let options = JsonOptions { pretty: true, ..JsonOptions::default() };
    write_json(&mut printed, schema, &wire, options).expect("a String takes everything");
    let want: serde_json::Value = serde_json::from_str(golden).expect("JSON");
    let got: serde_json::Value = serde_json::from_str(&printed).expect("JSON");
    assert_eq!(got, want);
    assert_eq!(printed.len(), golden.len());
    assert_eq!(lines(&printed), lines(golden));
}
