use crate::network::testing::Terminal;
use nuncio_core::terminal_filter::Then;

#[test]
fn everybody_is_told_the_same() {
    let filter = Terminal::new(include_str!("example.yaml"));
    assert_eq!(filter.opens(), (Then::Close, "closed for today\n".to_owned()));
    assert_eq!(filter.details(), "direct_response");
}

#[test]
fn or_nothing() {
    let example = include_str!("example.yaml");
    let silent = example.replace("    response: {inline_string: \"closed for today\\n\"}\n", "");
    assert_ne!(silent, example);
    assert_eq!(Terminal::new(&silent).opens(), (Then::Close, String::new()));
}
