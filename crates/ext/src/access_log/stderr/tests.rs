use crate::access_log::flush;
use crate::testing::{logger, outputs_of, with_entry};

const STDERR: &str = "envoy.extensions.access_loggers.stream.v3.StderrAccessLog";

#[test]
fn writes_to_the_output_of_the_process() {
    let outputs = outputs_of("access_log::stderr::tests::writes_to_the_output_of_the_process", || {
        let format = "log_format: {text_format_source: {inline_string: \"<%REQ(:PATH)%>\\n\"}}";
        for config in [format, ""] {
            with_entry(|entry| logger(STDERR, config).unwrap().log(entry));
        }
        flush();
    });
    assert!(outputs.1.contains("</p>\n"), "{outputs:?}");
    assert!(outputs.1.contains("\"GET /p -\" 200 - 0 0"), "{outputs:?}");
    assert!(!outputs.0.contains("/p"), "{outputs:?}");
}

#[test]
fn refusals() {
    let refusal = |config: &str| logger(STDERR, config).err().unwrap();
    assert_eq!(
        refusal("log_format: {text_format_source: {inline_string: '%FOO%'}}"),
        "Not supported field in StreamInfo: FOO"
    );
}
