use crate::network::testing::Terminal;
use nuncio_core::terminal_filter::Then;

#[test]
fn what_comes_goes_back() {
    let filter = Terminal::new(include_str!("example.yaml"));
    assert_eq!(filter.opens(), (Then::GoOn, String::new()));
    assert_eq!(filter.data("hello"), (Then::GoOn, "hello".to_owned()));
    assert_eq!(filter.data("\0 world"), (Then::GoOn, "\0 world".to_owned()));
}
