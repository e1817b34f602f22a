//! From text to the message `cel.expr.Expr` (the language definition, "Grammar").

use super::lex::{Placed, Token, Wrong, words};
use nuncio_api::cel::expr as pb;
use pb::constant::ConstantKind as C;
use pb::expr::{Call, Comprehension, CreateList, CreateStruct, ExprKind as K, Ident, Select, create_struct};

/// Of brackets, signs and conditions. Chains of operators are as deep as they are long, unless they are of `&&` or `||`.
const MAX_DEPTH: usize = 64;
/// Of the whole text, in bytes.
const MAX_LEN: usize = 100_000;

/// Parses; the error is of one line, as `ERROR: <input>:1:4: …`.
pub(super) fn parse(text: &str) -> Result<pb::Expr, String> {
    let say = |(at, what): Wrong| {
        let before = &text[..at];
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        format!("ERROR: <input>:{line}:{column}: {what}")
    };
    if text.len() > MAX_LEN {
        return Err(say((0, format!("expression size exceeds limit: {MAX_LEN}"))));
    }
    let words = words(text).map_err(say)?;
    let mut p = Parser { words, at: 0, depth: 0 };
    let parsed = p.expression().and_then(|e| match p.peek() {
        Token::End => Ok(e),
        _ => Err(p.unexpected()),
    });
    parsed.map_err(say)
}

type Parsed = Result<pb::Expr, Wrong>;

struct Parser {
    words: Vec<Placed>,
    at: usize,
    depth: usize,
}

fn expr(kind: K) -> pb::Expr {
    pb::Expr { id: 0, expr_kind: Some(kind) }
}

fn constant(kind: C) -> pb::Expr {
    expr(K::ConstExpr(pb::Constant { constant_kind: Some(kind) }))
}

fn call(function: &str, args: Vec<pb::Expr>) -> pb::Expr {
    expr(K::CallExpr(Box::new(Call { target: None, function: function.into(), args })))
}

/// Left to right, but no deeper than need be.
fn balanced(function: &str, mut terms: Vec<pb::Expr>) -> pb::Expr {
    if terms.len() == 1
        && let Some(one) = terms.pop()
    {
        return one;
    }
    let right = terms.split_off(terms.len() / 2);
    call(function, vec![balanced(function, terms), balanced(function, right)])
}

impl Parser {
    fn peek(&self) -> &Token {
        self.words.get(self.at).map_or(&Token::End, |w| &w.0)
    }
    fn here(&self) -> usize {
        self.words.get(self.at).map_or(0, |w| w.1)
    }
    fn next(&mut self) -> Token {
        let word = self.peek().clone();
        self.at += 1;
        word
    }
    fn takes(&mut self, sign: &str) -> bool {
        let found = matches!(self.peek(), Token::Sign(s) if *s == sign);
        self.at += usize::from(found);
        found
    }
    fn takes_any(&mut self, signs: &[(&str, &'static str)]) -> Option<&'static str> {
        signs.iter().find(|(s, _)| self.takes(s)).map(|(_, f)| *f)
    }
    fn wants(&mut self, sign: &str) -> Result<(), Wrong> {
        if self.takes(sign) { Ok(()) } else { Err(self.unexpected()) }
    }
    fn unexpected(&self) -> Wrong {
        let what = match self.peek() {
            Token::End => "mismatched input '<EOF>'".to_owned(),
            Token::Sign(s) => format!("mismatched input '{s}'"),
            Token::Ident(s) => format!("mismatched input '{s}'"),
            _ => "extraneous input".to_owned(),
        };
        (self.here(), format!("Syntax error: {what}"))
    }
    fn deeper<T>(&mut self, f: impl FnOnce(&mut Parser) -> Result<T, Wrong>) -> Result<T, Wrong> {
        if self.depth >= MAX_DEPTH {
            return Err((self.here(), format!("expression recursion limit exceeded: {MAX_DEPTH}")));
        }
        self.depth += 1;
        let found = f(self);
        self.depth -= 1;
        found
    }

    fn expression(&mut self) -> Parsed {
        self.deeper(|p| {
            let condition = p.or()?;
            if !p.takes("?") {
                return Ok(condition);
            }
            let then = p.or()?;
            p.wants(":")?;
            Ok(call("_?_:_", vec![condition, then, p.expression()?]))
        })
    }
    fn or(&mut self) -> Parsed {
        let mut terms = vec![self.and()?];
        while self.takes("||") {
            terms.push(self.and()?);
        }
        Ok(balanced("_||_", terms))
    }
    fn and(&mut self) -> Parsed {
        let mut terms = vec![self.relation()?];
        while self.takes("&&") {
            terms.push(self.relation()?);
        }
        Ok(balanced("_&&_", terms))
    }
    /// Operators of one rank, from the left. Each makes it deeper.
    fn chain(
        &mut self,
        one: fn(&mut Parser) -> Parsed,
        operator: impl Fn(&mut Parser) -> Option<&'static str>,
    ) -> Parsed {
        let mut left = one(self)?;
        let mut length = 0;
        while let Some(f) = operator(self) {
            length += 1;
            if length > MAX_DEPTH {
                return Err((self.here(), format!("expression recursion limit exceeded: {MAX_DEPTH}")));
            }
            left = call(f, vec![left, one(self)?]);
        }
        Ok(left)
    }
    fn relation(&mut self) -> Parsed {
        const SIGNS: &[(&str, &str)] =
            &[("==", "_==_"), ("!=", "_!=_"), ("<=", "_<=_"), (">=", "_>=_"), ("<", "_<_"), (">", "_>_")];
        self.chain(Parser::addition, |p| {
            if matches!(p.peek(), Token::Ident(i) if i == "in") {
                p.at += 1;
                return Some("@in");
            }
            p.takes_any(SIGNS)
        })
    }
    fn addition(&mut self) -> Parsed {
        self.chain(Parser::multiplication, |p| p.takes_any(&[("+", "_+_"), ("-", "_-_")]))
    }
    fn multiplication(&mut self) -> Parsed {
        self.chain(Parser::unary, |p| p.takes_any(&[("*", "_*_"), ("/", "_/_"), ("%", "_%_")]))
    }
    fn unary(&mut self) -> Parsed {
        if self.takes("!") {
            return self.deeper(|p| Ok(call("!_", vec![p.unary()?])));
        }
        if self.takes("-") {
            let at = self.here();
            // The smallest number has no positive counterpart.
            return match self.peek().clone() {
                Token::Int(n) => {
                    self.at += 1;
                    let n = 0_i64.checked_sub_unsigned(n).ok_or((at, "invalid int literal".to_owned()))?;
                    self.members(constant(C::Int64Value(n)))
                }
                Token::Double(d) => {
                    self.at += 1;
                    self.members(constant(C::DoubleValue(-d)))
                }
                _ => self.deeper(|p| Ok(call("-_", vec![p.unary()?]))),
            };
        }
        let primary = self.primary()?;
        self.members(primary)
    }
    fn members(&mut self, mut of: pb::Expr) -> Parsed {
        let mut length = 0;
        loop {
            length += 1;
            if length > MAX_DEPTH {
                return Err((self.here(), format!("expression recursion limit exceeded: {MAX_DEPTH}")));
            }
            if self.takes("[") {
                let index = self.expression()?;
                self.wants("]")?;
                of = call("_[_]", vec![of, index]);
            } else if self.takes(".") {
                let Token::Ident(name) = self.peek().clone() else { return Err(self.unexpected()) };
                self.at += 1;
                of = match self.takes("(") {
                    true => self.method(of, name)?,
                    false => {
                        let operand = Some(Box::new(of));
                        expr(K::SelectExpr(Box::new(Select { operand, field: name, test_only: false })))
                    }
                };
            } else {
                return Ok(of);
            }
        }
    }
    fn method(&mut self, of: pb::Expr, function: String) -> Parsed {
        let args = self.list(")")?;
        let is_macro = match &*function {
            "all" | "exists" | "exists_one" | "filter" => args.len() == 2,
            "map" => matches!(args.len(), 2 | 3),
            _ => false,
        };
        if is_macro {
            // Nobody evaluates it: it is refused when it is compiled.
            return Ok(expr(K::ComprehensionExpr(Box::<Comprehension>::default())));
        }
        Ok(expr(K::CallExpr(Box::new(Call { target: Some(Box::new(of)), function, args }))))
    }
    /// Expressions up to a closing bracket.
    fn list(&mut self, close: &str) -> Result<Vec<pb::Expr>, Wrong> {
        let mut all = vec![];
        while !self.takes(close) {
            all.push(self.expression()?);
            if !self.takes(",") {
                self.wants(close)?;
                break;
            }
        }
        Ok(all)
    }
    fn primary(&mut self) -> Parsed {
        let at = self.here();
        let dotted = self.takes(".");
        match self.next() {
            Token::Ident(name) => self.named(name, dotted, at),
            _ if dotted => {
                self.at -= 1;
                Err(self.unexpected())
            }
            Token::Int(n) => {
                let n = i64::try_from(n).map_err(|_| (at, "invalid int literal".to_owned()))?;
                Ok(constant(C::Int64Value(n)))
            }
            Token::Uint(n) => Ok(constant(C::Uint64Value(n))),
            Token::Double(d) => Ok(constant(C::DoubleValue(d))),
            Token::Text(t) => Ok(constant(C::StringValue(t))),
            Token::Bytes(b) => Ok(constant(C::BytesValue(b))),
            Token::Sign("(") => {
                let inner = self.expression()?;
                self.wants(")")?;
                Ok(inner)
            }
            Token::Sign("[") => {
                let elements = self.list("]")?;
                Ok(expr(K::ListExpr(CreateList { elements, ..Default::default() })))
            }
            Token::Sign("{") => self.map(),
            _ => {
                self.at -= 1;
                Err(self.unexpected())
            }
        }
    }
    fn map(&mut self) -> Parsed {
        let mut entries = vec![];
        while !self.takes("}") {
            let key = self.expression()?;
            self.wants(":")?;
            let value = Some(self.expression()?);
            let key_kind = Some(create_struct::entry::KeyKind::MapKey(key));
            entries.push(create_struct::Entry { key_kind, value, ..Default::default() });
            if !self.takes(",") {
                self.wants("}")?;
                break;
            }
        }
        Ok(expr(K::StructExpr(CreateStruct { entries, ..Default::default() })))
    }
    fn named(&mut self, name: String, dotted: bool, at: usize) -> Parsed {
        match &*name {
            "true" | "false" => return Ok(constant(C::BoolValue(name == "true"))),
            "null" => return Ok(constant(C::NullValue(0))),
            "in" => return Err((at, "Syntax error: mismatched input 'in'".to_owned())),
            _ => {}
        }
        if self.takes("{") {
            // A message; there is none that could be made.
            let message_name = name;
            self.skip_fields()?;
            return Ok(expr(K::StructExpr(CreateStruct { message_name, ..Default::default() })));
        }
        let name = if dotted { format!(".{name}") } else { name };
        if !self.takes("(") {
            return Ok(expr(K::IdentExpr(Ident { name })));
        }
        let mut args = self.list(")")?;
        if name != "has" || args.len() != 1 {
            return Ok(call(&name, args));
        }
        let Some(K::SelectExpr(select)) = args.pop().and_then(|a| a.expr_kind) else {
            return Err((at + "has(".len(), "has() argument must be a field selection".to_owned()));
        };
        Ok(expr(K::SelectExpr(Box::new(Select { test_only: true, ..*select }))))
    }
    fn skip_fields(&mut self) -> Result<(), Wrong> {
        while !self.takes("}") {
            self.next();
            self.wants(":")?;
            self.expression()?;
            if !self.takes(",") {
                return self.wants("}");
            }
        }
        Ok(())
    }
}
