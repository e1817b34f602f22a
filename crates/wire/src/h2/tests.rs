//! Frames by hand against one connection (`script`, `rules`, `flow`, `floods`), and both roles back to back
//! (`pair`, `random`).

mod floods;
mod flow;
mod pair;
mod random;
mod rules;
mod script;
