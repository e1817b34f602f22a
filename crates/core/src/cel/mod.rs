//! CEL, the Common Expression Language, over Envoy's attributes of a request (`request.path`, `source.address`, …).
//!
//! A text is parsed ([`parse`](self)) into the message that configuration may hold as well (`cel.expr.Expr`); that is compiled
//! ([`compile`](self)) and evaluated against what format strings see ([`FormatCx`]).
//!
//! As in Envoy there are no comprehensions (`all`, `exists`, `map`), so there is no loop: an evaluation costs what the expression
//! is long, times the data that it looks at. Strings are neither made of other values nor put together unless
//! [`Options`] allow it. Strings are bytes: nothing on the wire is promised to be UTF-8.

mod attributes;
mod compile;
mod eval;
mod functions;
mod lex;
mod parse;
#[cfg(test)]
mod tests;
mod time;
mod value;

use crate::coverage::Covered;
use crate::error::{BuildError, BuildResult};
use crate::format::FormatCx;
use compile::Node;
use nuncio_api::cel::expr as pb;
use nuncio_api::envoy::config::core::v3::CelExpressionConfig;
use nuncio_api::google::api::expr::v1alpha1 as alpha;
use nuncio_api::xds::r#type::v3 as xds;
use prost::Message;
pub use value::{Failed, Value};

/// What is read of the message that says what expressions may do, and of expressions in Google's older spelling. What has
/// the same fields in the newer one is bytes to those who look for fields that nobody reads.
pub const COVERED: &[Covered] = &[
    Covered::new(
        "envoy.config.core.v3.CelExpressionConfig",
        &["enable_string_conversion", "enable_string_concat", "enable_string_functions"],
    ),
    Covered::new(
        "google.api.expr.v1alpha1.Expr",
        &[
            "id",
            "const_expr",
            "ident_expr",
            "select_expr",
            "call_expr",
            "list_expr",
            "struct_expr",
            "comprehension_expr",
        ],
    ),
    Covered::new(
        "google.api.expr.v1alpha1.Constant",
        &[
            "null_value",
            "bool_value",
            "int64_value",
            "uint64_value",
            "double_value",
            "string_value",
            "bytes_value",
            "duration_value",
            "timestamp_value",
        ],
    ),
    Covered::new("google.api.expr.v1alpha1.Expr.Ident", &["name"]),
    Covered::new("google.api.expr.v1alpha1.Expr.Select", &["operand", "field", "test_only"]),
    Covered::new("google.api.expr.v1alpha1.Expr.Call", &["target", "function", "args"]),
    Covered::new("google.api.expr.v1alpha1.Expr.CreateList", &["elements"]),
    Covered::new("google.api.expr.v1alpha1.Expr.CreateStruct", &["message_name", "entries"]),
    Covered::new(
        "google.api.expr.v1alpha1.Expr.CreateStruct.Entry",
        &["id", "field_key", "map_key", "value"],
    ),
    // Refused as a whole, in Envoy's words.
    Covered::new(
        "google.api.expr.v1alpha1.Expr.Comprehension",
        &[
            "iter_var",
            "iter_var2",
            "iter_range",
            "accu_var",
            "accu_init",
            "loop_condition",
            "loop_step",
            "result",
        ],
    ),
];

/// What an expression may do (`CelExpressionConfig`).
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// `string(x)`
    pub string_conversion: bool,
    /// `'a' + 'b'`
    pub string_concat: bool,
    /// `replace`, `split`, `lowerAscii`, `upperAscii`
    pub string_functions: bool,
}

impl Options {
    /// From configuration.
    pub fn new(c: Option<&CelExpressionConfig>) -> Options {
        c.map_or_else(Options::default, |c| Options {
            string_conversion: c.enable_string_conversion,
            string_concat: c.enable_string_concat,
            string_functions: c.enable_string_functions,
        })
    }
}

/// A compiled expression.
#[derive(Debug)]
pub struct Program(Node);

impl Program {
    /// From text.
    ///
    /// # Errors
    /// `Not able to parse expression: …` or `failed to create an expression: …`.
    pub fn parse(text: &str, options: Options) -> BuildResult<Program> {
        let parsed = parse::parse(text)
            .map_err(|e| BuildError(format!("Not able to parse expression: INVALID_ARGUMENT: {e}")))?;
        Program::new(&parsed, options)
    }
    /// From the message.
    ///
    /// # Errors
    /// `failed to create an expression: …`, in Envoy's words.
    pub fn new(e: &pb::Expr, options: Options) -> BuildResult<Program> {
        compile::compile(e, options).map(Program)
    }
    /// From the older message, which has the same fields.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn of_alpha(e: &alpha::Expr, options: Options) -> BuildResult<Program> {
        let e = pb::Expr::decode(&*e.encode_to_vec()).map_err(|e| BuildError(e.to_string()))?;
        Program::new(&e, options)
    }
    /// From the message of the xDS API.
    ///
    /// # Errors
    /// As [`new`](Self::new); or there is none.
    pub fn of_xds(e: &xds::CelExpression) -> BuildResult<Program> {
        use xds::cel_expression::ExprSpecifier as S;
        let none = || BuildError::from("failed to create an expression: CEL expression not set.");
        let options = Options::default();
        if let Some(c) = &e.cel_expr_checked {
            return Program::new(c.expr.as_ref().ok_or_else(none)?, options);
        }
        if let Some(p) = &e.cel_expr_parsed {
            return Program::new(p.expr.as_ref().ok_or_else(none)?, options);
        }
        match &e.expr_specifier {
            Some(S::ParsedExpr(p)) => Program::of_alpha(p.expr.as_ref().ok_or_else(none)?, options),
            Some(S::CheckedExpr(c)) => Program::of_alpha(c.expr.as_ref().ok_or_else(none)?, options),
            None => Err(none()),
        }
    }
    /// Its value.
    ///
    /// # Errors
    /// Something that it looks at is not there, or values do not fit together.
    pub fn eval<'a>(&'a self, cx: &FormatCx<'a>) -> Result<Value<'a>, Failed> {
        self.0.eval(cx)
    }
    /// Whether it is true; what fails is not.
    pub fn matches(&self, cx: &FormatCx<'_>) -> bool {
        matches!(self.eval(cx), Ok(Value::Bool(true)))
    }
}
