use crate::testing::{entry_line, logger};

const FILE: &str = "envoy.extensions.access_loggers.file.v3.FileAccessLog";

/// What a logger with this format writes for an entry.
fn line(name: &str, format: &str) -> String {
    let path = std::env::temp_dir().join(format!("nuncio-ext-{}-file-{name}", std::process::id()));
    let config = format!("path: '{}', {format}", path.display());
    let line = entry_line(&logger(FILE, &config).unwrap(), &path);
    std::fs::remove_file(&path).unwrap();
    line
}

#[test]
fn formats() {
    let text = "log_format: {text_format_source: {inline_string: \"%REQ(:PATH)% %RESPONSE_CODE%\\n\"}}";
    assert_eq!(line("text", text), "/p 200\n");
    let json = "{a: '%RESPONSE_CODE%', b: '%REQ(:PATH)% x', c: '%REQ(none)%', d: 3}";
    let want = "{\"a\":200,\"b\":\"/p x\",\"c\":null,\"d\":3}\n";
    assert_eq!(line("json", &format!("log_format: {{json_format: {json}}}")), want);
    // Envoy 1.40 keeps types in the deprecated `json_format` too (measured).
    assert_eq!(line("old-json", &format!("json_format: {json}")), want);
    assert_eq!(line("typed-json", &format!("typed_json_format: {json}")), want);
    assert_eq!(line("old-text", "format: \"%REQ(:PATH)%|\\n\""), "/p|\n");
}

#[test]
fn the_default_format() {
    let default = line("default", "");
    assert!(default.contains("\"GET /p -\" 200 - 0 0"), "{default}");
    assert_eq!(line("empty", "format: ''").split_once(']').unwrap().1, default.split_once(']').unwrap().1);
}

#[test]
fn refusals() {
    let refusal = |config: &str| logger(FILE, config).err().unwrap();
    assert_eq!(
        refusal("path: /nonexistent/dir/x"),
        "unable to open file '/nonexistent/dir/x': No such file or directory"
    );
    assert_eq!(refusal("path: /dev/null, format: '%FOO%'"), "Not supported field in StreamInfo: FOO");
    assert!(refusal("format: ''").contains("Path: value length must be at least 1 characters"));
}
