use super::*;

/// One line of text that shows a tree, scalars with their kind.
fn show(node: Node<'_>) -> String {
    match node.value() {
        Value::Null => "null".to_string(),
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => format!("i{value}"),
        Value::Number(text) => format!("n{text}"),
        Value::Text(text) => format!("{text:?}"),
        Value::Seq(elements) => format!("[{}]", elements.map(show).collect::<Vec<_>>().join(" ")),
        Value::Map(entries) => {
            let entries = entries.map(|(key, value)| format!("{}:{}", key.text(), show(value)));
            format!("{{{}}}", entries.collect::<Vec<_>>().join(" "))
        }
    }
}

fn yaml(text: &str) -> String {
    match parse_yaml(text) {
        Ok(tree) => show(tree.root()),
        Err(error) => error.phrase,
    }
}

fn json(text: &str) -> String {
    match parse_json(text) {
        Ok(tree) => show(tree.root()),
        Err(error) => error.phrase.split_once("near ").map_or_else(String::new, |(_, rest)| rest.to_string()),
    }
}

#[test]
fn plain_scalars_follow_yaml_1_1_as_envoy_reads_it() {
    for (text, want) in [
        ("y", "true"),
        ("Yes", "true"),
        ("ON", "true"),
        ("off", "false"),
        ("N", "false"),
        ("yEs", "\"yEs\""),
        ("oN", "\"oN\""),
        ("0x1F", "i31"),
        ("-0x10", "i-16"),
        ("010", "i8"),
        ("08", "\"08\""),
        ("0o10", "\"0o10\""),
        ("+5", "i5"),
        ("--5", "\"--5\""),
        ("-x", "\"-x\""),
        ("2147483647", "i2147483647"),
        ("2147483648", "\"2147483648\""),
        ("0x80000000", "\"2147483648\""),
        ("99999999999999999999", "\"99999999999999999999\""),
        ("1.5", "\"1.5\""),
        ("1e3", "\"1e3\""),
        ("8_080", "\"8_080\""),
        (".inf", "\".inf\""),
        ("~", "null"),
        ("Null", "null"),
        ("nULL", "\"nULL\""),
        ("", "null"),
        ("'5'", "\"5\""),
        ("\"true\"", "\"true\""),
        ("!!str 5", "i5"),
        ("! 5", "\"5\""),
        ("!!str '5'", "i5"),
        ("!!bool 'true'", "true"),
        ("!!str null", "\"null\""),
        ("!!str", "\"\""),
        ("\"a\\nb\"", "\"a\\nb\""),
        ("|\n  two\n  lines", "\"two\\nlines\\n\""),
    ] {
        let want = format!("{{k:{want}}}");
        assert_eq!(yaml(&format!("k: {text}\n")), want, "{text}");
    }
}

#[test]
fn containers_anchors_and_documents() {
    assert_eq!(yaml("a: &x {b: 1}\nc: *x\nd: [*x, *x]"), "{a:{b:i1} c:{b:i1} d:[{b:i1} {b:i1}]}");
    assert_eq!(yaml("a: 1\n---\nb: 2"), "{a:i1}");
    assert_eq!(yaml("---\na: 1\n...\n"), "{a:i1}");
    assert_eq!(yaml("<<: {a: 1}\nb: 2"), "{<<:{a:i1} b:i2}");
    assert_eq!(yaml("- a\n- b"), "[\"a\" \"b\"]");
    assert_eq!(yaml("!ignore dyn: [{x: 1}, 2]\na: {!ignore z: {}, b: 1}\n!ignore e: 1"), "{a:{b:i1}}");
    assert_eq!(yaml("{}"), "{}");
    assert_eq!(yaml("[]"), "[]");
}

#[test]
fn what_is_no_document() {
    assert_eq!(yaml(""), "Unable to convert YAML as JSON: ");
    assert_eq!(yaml("# nothing\n"), "Unable to convert YAML as JSON: # nothing");
    assert_eq!(yaml("hello\n"), "Unable to convert YAML as JSON: hello");
    assert!(yaml("a: {? [x, y] : z}").ends_with("bad conversion"), "{}", yaml("a: {? [x, y] : z}"));
    assert_eq!(
        yaml("a: {b: *nope }"),
        "yaml-cpp: error at line 1, column 8: the referenced anchor is not defined: nope"
    );
    assert!(yaml("a: @x").ends_with("column 4: unknown token"), "{}", yaml("a: @x"));
    assert!(yaml("a: - x").ends_with("column 4: illegal block entry"), "{}", yaml("a: - x"));
    assert_eq!(yaml(": a\n~: b\n"), "{null:\"a\" null:\"b\"}");
    assert!(yaml("a: &x [*x]").contains("anchor"), "{}", yaml("a: &x [*x]"));
}

#[test]
fn positions_point_at_values() {
    let tree = parse_yaml("a:\n  b: [1, two]\n").expect("a document");
    let list = tree.root().get("a").and_then(|a| a.get("b")).expect("a list");
    assert_eq!(list.position(), Position { line: 2, column: 6 });
    let Value::Seq(mut elements) = list.value() else { panic!("no list") };
    assert_eq!(elements.nth(1).map(Node::position), Some(Position { line: 2, column: 10 }));
    let tree = parse_json("{\n \"a\": [true]}").expect("a document");
    assert_eq!(tree.root().get("a").map(Node::position), Some(Position { line: 2, column: 7 }));
}

#[test]
fn bombs_are_refused() {
    let deep = format!("{}1{}", "[".repeat(MAX_DEPTH + 1), "]".repeat(MAX_DEPTH + 1));
    assert!(yaml(&deep).contains("too deep"));
    assert!(json(&deep).contains("too deeply nested"));
    let fine = format!("{}1{}", "[".repeat(MAX_DEPTH), "]".repeat(MAX_DEPTH));
    assert!(yaml(&fine).ends_with(']'));

    let mut laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_string();
    for level in 1..12 {
        let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
        laughs.push_str(&format!("a{level}: &a{level} [{aliases}]\n"));
    }
    assert!(yaml(&laughs).contains("too many nodes"));
    // Block style, and unclosed.
    assert!(yaml(&"- ".repeat(5_000)).contains("too deep"));
    assert!(json(&"[".repeat(100_000)).contains("too deeply nested"));
}

#[test]
fn json_is_that_of_protobuf() {
    for (text, want) in [
        (
            r#"{"a": [1, -2.5e3, "x\n\u00e9\ud83d\ude00", true, null], "b": {}}"#,
            "{a:[n1 n-2.5e3 \"x\\né😀\" true null] b:{}}",
        ),
        ("{'a': 'x\"', b_2: \"it's\", $c: 1,}", "{a:\"x\\\"\" b_2:\"it's\" $c:n1}"),
        ("[1, 2,]", "[n1 n2]"),
        ("[]", "[]"),
        ("[\"a\nb\tc\u{1}\"]", "[\"a\\nb\\tc\\u{1}\"]"),
        ("['\\U0041\\'\\/']", "[\"A'/\"]"),
    ] {
        let tree = parse_json(text).expect(text);
        assert_eq!(show(tree.root()), want);
    }
    for (text, want) in [
        ("{", "1:2: unexpected end of stream"),
        ("{\"a\" 1}", "1:6: unexpected character: '1'; expected ':'"),
        ("{\"a\": 1,,}", "1:9: expected bare word"),
        ("{1: 2}", "1:2: expected bare word"),
        ("{null: 2}", "1:2: expected bare word"),
        ("[,]", "1:2: unexpected character: ','"),
        ("[1 2]", "1:4: unexpected character: '2'; expected ']'"),
        ("[01]", "1:2: number cannot have extraneous leading zero"),
        ("[1.]", "1:2: number cannot have trailing period"),
        ("[é]", "1:2: unexpected character: 'é'"),
        ("[\"\\ud83d\"]", "1:4: invalid low surrogate"),
        ("[\"\\x\"]", "1:4: invalid escape char: 'x'"),
        ("[\"\\u12\"]", "1:5: invalid Unicode escape"),
        ("[1e999]", "1:2: invalid number: '1e999'"),
        ("[\"x\ny", "2:2: unexpected end of string"),
    ] {
        let got = json(text);
        assert!(got.starts_with(want), "{text}: {got}");
    }
    for (text, want) in [("", "unexpected EOF"), ("[1] 2", "extraneous characters after end of JSON object")]
    {
        let error = parse_json(text).err().expect(text);
        assert_eq!(error.phrase, format!("Unable to parse JSON as proto (INVALID_ARGUMENT: {want})"));
    }
}

#[test]
fn further_lines_may_stand_anywhere() {
    assert_eq!(yaml("node: {\n\"id\": \"x\",\n'c': [\na,\n]\n}\nb: 1\n"), "{node:{id:\"x\" c:[\"a\"]} b:i1}");
    assert_eq!(yaml("a:\n  b: [\n  x, # [ no\n  'it''s {'\n]\n  c: 1\n"), "{a:{b:[\"x\" \"it's {\"] c:i1}}");
    assert_eq!(yaml("a:\n  b: \"x\n\ny \\\" z\"\n  c: 'p\nq'\n"), "{a:{b:\"x\\ny \\\" z\" c:\"p q\"}}");
    let text =
        "a:\n- b: |\n    { [ \"\n  c: x{y\n  d: !t {\n}\n- e: >-\n   '\n  f: it's\n  g: &a [\n]\n# {\n";
    assert_eq!(yaml(text), "{a:[{b:\"{ [ \\\"\\n\" c:\"x{y\" d:{}} {e:\"'\" f:\"it's\" g:[]}]}");
    // Columns are those of the text as it was written.
    let tree = parse_yaml("a: {\nb: {\n  c: 1\n}\n}").expect("a document");
    let position = |node: Option<Node<'_>>| node.map(Node::position);
    let b = tree.root().get("a").and_then(|a| a.get("b"));
    assert_eq!(position(b), Some(Position { line: 2, column: 4 }));
    assert_eq!(position(b.and_then(|b| b.get("c"))), Some(Position { line: 3, column: 6 }));
    // What is wrong otherwise is reported where it is.
    assert!(yaml("a: {\nb: [\n}").contains("line 3, column 1"), "{}", yaml("a: {\nb: [\n}"));
}
