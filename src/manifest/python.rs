//! Which names a Python module binds, read from its text: the project's code is never run here.
//!
//! Not a whole parser: statements of the module's own scope are told from bodies of functions and classes,
//! and the names that they bind are collected (the language reference, 4.2.1 "Binding of names"). Where a text
//! could bind what cannot be seen in it (`import *`, `globals()`, `exec`), it says so and nobody is blamed.

use std::collections::BTreeSet;

/// The largest module that is read.
pub const MAX_BYTES: u64 = 4 << 20;

/// How deep f-strings may nest.
const MAX_NESTING: usize = 16;

/// What a module binds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bindings {
    /// Names in its own scope.
    pub names: BTreeSet<String>,
    /// Whether it may bind more than can be seen.
    pub open: bool,
    /// The line where the text ends within a string or bracket: Python would not read it either.
    pub broken: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token<'t> {
    Word(&'t str),
    /// Operators and delimiters; only those that matter have more than one character.
    Sign(&'t str),
    Text,
}

/// A statement: one logical line, or a part of one between semicolons.
struct Statement<'t> {
    indent: usize,
    tokens: Vec<Token<'t>>,
}

/// Names whose use at any place may bind what is not seen.
const DYNAMIC: [&str; 6] = ["globals", "vars", "locals", "setattr", "exec", "__dict__"];

/// Reads the names that a module binds.
pub fn bindings(text: &str) -> Bindings {
    let mut found = Bindings::default();
    found.broken = each_statement(text, |tokens, indent, is_inside| {
        found.open |= is_dynamic(tokens);
        if is_inside {
            found.take_globals(tokens);
        } else {
            found.take(tokens, indent > 0);
        }
    });
    found.open |= found.names.contains("__getattr__");
    found
}

/// What one statement of the module's own scope binds.
pub(super) fn bound_by(tokens: &[Token<'_>]) -> Bindings {
    let mut found = Bindings { open: is_dynamic(tokens), ..Bindings::default() };
    found.take(tokens, false);
    found
}

/// Hands each statement to `take`, with how far it is set in and whether it stands within a function or a class.
/// The line where the text breaks off, if it does.
pub(super) fn each_statement(text: &str, mut take: impl FnMut(&[Token<'_>], usize, bool)) -> Option<usize> {
    let text = text.trim_start_matches('\u{feff}');
    let mut lexer = Lexer { text, at: 0 };
    // Bodies of functions and classes are deeper than the statement that they belong to.
    let mut inside: Option<usize> = None;
    loop {
        match lexer.statement() {
            Ok(Some(Statement { indent, tokens })) => {
                inside = inside.filter(|above| indent > *above);
                take(&tokens, indent, inside.is_some());
                if inside.is_none() && opens_scope(&tokens) {
                    inside = Some(indent);
                }
            }
            Ok(None) => return None,
            Err(at) => return Some(text[..at.min(text.len())].matches('\n').count() + 1),
        }
    }
}

fn is_dynamic(tokens: &[Token<'_>]) -> bool {
    tokens.iter().any(|token| matches!(token, Token::Word(word) if DYNAMIC.contains(word)))
}

fn opens_scope(tokens: &[Token<'_>]) -> bool {
    let tokens = tokens.strip_prefix(&[Token::Word("async")]).unwrap_or(tokens);
    matches!(tokens.first(), Some(Token::Word("def" | "class")))
}

impl Bindings {
    fn bind(&mut self, name: &str) {
        self.names.insert(name.to_owned());
    }

    /// `global x` in a function: the function may bind it.
    fn take_globals(&mut self, tokens: &[Token<'_>]) {
        // Also where it stands behind a colon on the same line.
        let Some(at) = tokens.iter().position(|token| *token == Token::Word("global")) else { return };
        for token in &tokens[at + 1..] {
            if let Token::Word(name) = token {
                self.bind(name);
            }
        }
    }

    fn take(&mut self, tokens: &[Token<'_>], is_nested: bool) {
        for pair in tokens.windows(2) {
            if let [Token::Word(name), Token::Sign(":=")] = pair {
                self.bind(name);
            }
        }
        let tokens = tokens.strip_prefix(&[Token::Word("async")]).unwrap_or(tokens);
        let Some(Token::Word(first)) = tokens.first().copied() else { return self.assignment(tokens) };
        let rest = &tokens[1..];
        match first {
            "def" | "class" => {
                if let Some(Token::Word(name)) = rest.first() {
                    self.bind(name);
                }
                self.take_globals(rest);
            }
            "import" => {
                for part in split(rest, ",") {
                    match part {
                        [.., Token::Word("as"), Token::Word(name)] | [Token::Word(name), ..] => self.bind(name),
                        _ => {}
                    }
                }
            }
            "from" => {
                let Some(at) = rest.iter().position(|token| *token == Token::Word("import")) else { return };
                let names: Vec<_> =
                    rest[at + 1..].iter().copied().filter(|token| !matches!(token, Token::Sign("(" | ")"))).collect();
                self.open |= names.contains(&Token::Sign("*"));
                for part in split(&names, ",") {
                    if let Some(Token::Word(name)) = part.last() {
                        self.bind(name);
                    }
                }
            }
            "del" if !is_nested => {
                for part in split(rest, ",") {
                    if let [Token::Word(name)] = part {
                        self.names.remove(*name);
                    }
                }
            }
            "type" if matches!(rest, [Token::Word(_), Token::Sign("=" | "["), ..]) => {
                if let Some(Token::Word(name)) = rest.first() {
                    self.bind(name);
                }
            }
            "if" | "elif" | "while" | "else" | "try" | "finally" | "for" | "with" | "except" => {
                self.header(first, rest);
            }
            "case" if !has_sign(tokens, "=") => self.header(first, rest),
            _ => self.assignment(tokens),
        }
    }

    /// A compound statement's first line: what it binds, and the statement behind its colon.
    fn header(&mut self, kind: &str, tokens: &[Token<'_>]) {
        let end = colon(tokens).unwrap_or(tokens.len());
        let (head, body) = (&tokens[..end], tokens.get(end + 1..).unwrap_or_default());
        match kind {
            "for" => {
                let end = head.iter().position(|token| *token == Token::Word("in")).unwrap_or(head.len());
                self.target(&head[..end]);
            }
            "with" | "except" => {
                for (at, token) in head.iter().enumerate() {
                    if *token == Token::Word("as") {
                        let target = &head[at + 1..];
                        let end = target_end(target);
                        self.target(&target[..end]);
                    }
                }
            }
            "case" => {
                for token in head {
                    if let Token::Word(name) = token {
                        self.bind(name);
                    }
                }
            }
            _ => {}
        }
        if !body.is_empty() {
            self.take(body, true);
        }
    }

    /// `a = b, c = …`, `a: T = …`, `a += …`
    fn assignment(&mut self, tokens: &[Token<'_>]) {
        let parts = split(tokens, "=");
        let Some((_, targets)) = parts.split_last() else { return };
        for target in targets {
            // An annotation alone binds nothing; before a value it is not part of the target.
            let target = colon(target).map_or(*target, |at| &target[..at]);
            self.target(target);
        }
        if let [Token::Word(name), Token::Sign("+="), ..] = tokens {
            self.bind(name);
        }
    }

    /// The names of a target: not attributes, not what is called or subscripted, not what stands in a subscript.
    fn target(&mut self, tokens: &[Token<'_>]) {
        let mut subscripts = 0_usize;
        for (at, token) in tokens.iter().enumerate() {
            let before = at.checked_sub(1).map(|at| tokens[at]);
            let follows_value = matches!(before, Some(Token::Word(_) | Token::Text | Token::Sign(")" | "]" | "}")));
            match token {
                Token::Sign("(" | "[" | "{") if follows_value || subscripts > 0 => subscripts += 1,
                Token::Sign(")" | "]" | "}") => subscripts = subscripts.saturating_sub(1),
                Token::Word(name) if subscripts == 0 && before != Some(Token::Sign(".")) => {
                    let after = tokens.get(at + 1);
                    if !matches!(after, Some(Token::Sign("." | "[" | "("))) {
                        self.bind(name);
                    }
                }
                _ => {}
            }
        }
    }
}

/// Parts between signs that stand outside of brackets.
pub(super) fn split<'a, 't>(tokens: &'a [Token<'t>], sign: &str) -> Vec<&'a [Token<'t>]> {
    let mut parts = Vec::new();
    let (mut depth, mut from) = (0_usize, 0);
    for (at, token) in tokens.iter().enumerate() {
        match token {
            Token::Sign("(" | "[" | "{") => depth += 1,
            Token::Sign(")" | "]" | "}") => depth = depth.saturating_sub(1),
            Token::Sign(found) if depth == 0 && *found == sign => {
                parts.push(&tokens[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&tokens[from..]);
    parts
}

pub(super) fn has_sign(tokens: &[Token<'_>], sign: &str) -> bool {
    split(tokens, sign).len() > 1
}

/// The first colon outside of brackets that is no lambda's.
fn colon(tokens: &[Token<'_>]) -> Option<usize> {
    let (mut depth, mut lambdas) = (0_usize, 0_usize);
    for (at, token) in tokens.iter().enumerate() {
        match token {
            Token::Sign("(" | "[" | "{") => depth += 1,
            Token::Sign(")" | "]" | "}") => depth = depth.saturating_sub(1),
            Token::Word("lambda") if depth == 0 => lambdas += 1,
            Token::Sign(":") if depth == 0 && lambdas > 0 => lambdas -= 1,
            Token::Sign(":") if depth == 0 => return Some(at),
            _ => {}
        }
    }
    None
}

/// Where the target behind an `as` ends.
fn target_end(tokens: &[Token<'_>]) -> usize {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate() {
        match token {
            Token::Sign("(" | "[" | "{") => depth += 1,
            Token::Sign(")" | "]" | "}" | ",") if depth == 0 => return at,
            Token::Sign(")" | "]" | "}") => depth -= 1,
            _ => {}
        }
    }
    tokens.len()
}

struct Lexer<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Lexer<'t> {
    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    /// The next statement that says something. `Err`: where the text broke off.
    fn statement(&mut self) -> Result<Option<Statement<'t>>, usize> {
        loop {
            let indent = self.indent();
            let statement = Statement { indent, tokens: self.tokens()? };
            if !statement.tokens.is_empty() {
                return Ok(Some(statement));
            }
            if self.at >= self.text.len() {
                return Ok(None);
            }
        }
    }

    /// How far this line is set in. Behind a semicolon: as the line is.
    fn indent(&self) -> usize {
        let line = self.text[..self.at].rfind('\n').map_or(0, |at| at + 1);
        let line = &self.text[line..];
        line.chars().take_while(|one| matches!(one, ' ' | '\t' | '\u{c}')).fold(0, |column, one| match one {
            '\t' => (column / 8 + 1) * 8,
            '\u{c}' => 0,
            _ => column + 1,
        })
    }

    /// The tokens up to the end of the statement.
    fn tokens(&mut self) -> Result<Vec<Token<'t>>, usize> {
        let mut tokens = Vec::new();
        let mut open = Vec::new();
        while let Some(one) = self.peek() {
            let start = self.at;
            match one {
                '\n' | ';' => {
                    self.at += 1;
                    if one == ';' && open.is_empty() || one == '\n' && open.is_empty() {
                        return Ok(tokens);
                    }
                }
                '#' => self.at += self.rest().find('\n').unwrap_or(self.rest().len()),
                '\\' => {
                    self.at += 1;
                    let rest = self.rest();
                    self.at += if rest.starts_with("\r\n") { 2 } else { rest.chars().next().map_or(0, char::len_utf8) };
                }
                '"' | '\'' => {
                    self.string("")?;
                    tokens.push(Token::Text);
                }
                _ if is_word(one) => {
                    let rest = self.rest();
                    let length = rest.find(|one: char| !is_word(one)).unwrap_or(rest.len());
                    let word = &rest[..length];
                    self.at += length;
                    let is_prefix = word.len() <= 2 && word.chars().all(|one| "rRbBuUfFtT".contains(one));
                    if is_prefix && matches!(self.peek(), Some('"' | '\'')) {
                        self.string(word)?;
                        tokens.push(Token::Text);
                    } else if one.is_ascii_digit() {
                        tokens.push(Token::Text);
                    } else {
                        tokens.push(Token::Word(word));
                    }
                }
                _ if one.is_whitespace() => self.at += one.len_utf8(),
                _ => {
                    let sign = self.sign();
                    match sign {
                        "(" | "[" | "{" => open.push(start),
                        ")" | "]" | "}" => {
                            open.pop();
                        }
                        _ => {}
                    }
                    tokens.push(Token::Sign(sign));
                }
            }
        }
        match open.first() {
            Some(start) => Err(*start),
            None => Ok(tokens),
        }
    }

    fn sign(&mut self) -> &'t str {
        const LONG: [&str; 14] = ["==", "!=", "<=", ">=", ":=", "->", "**", "//", "<<", ">>", "+=", "-=", "*=", "|="];
        let rest = self.rest();
        let assigns = rest.as_bytes().get(1) == Some(&b'=') && rest.starts_with(['/', '%', '&', '^', '@']);
        let length = if assigns || LONG.iter().any(|long| rest.starts_with(long)) {
            2
        } else {
            rest.chars().next().map_or(0, char::len_utf8)
        };
        self.at += length;
        &rest[..length]
    }

    /// A string with its quotes; `prefix` is what stood before them.
    fn string(&mut self, prefix: &str) -> Result<(), usize> {
        self.quoted(prefix, 0)
    }

    fn quoted(&mut self, prefix: &str, nesting: usize) -> Result<(), usize> {
        let start = self.at;
        let rest = self.rest();
        let quote = &rest[..1];
        let triple = rest.get(..3).filter(|three| three.chars().all(|one| quote.contains(one)));
        let end = triple.unwrap_or(quote);
        self.at += end.len();
        // From Python 3.12 on an f-string's fields may hold the quotes that the string has.
        let has_fields = prefix.contains(['f', 'F', 't', 'T']);
        while let Some(one) = self.peek() {
            let rest = self.rest();
            if rest.starts_with(end) {
                self.at += end.len();
                return Ok(());
            }
            match one {
                '\\' => {
                    self.at += 1;
                    self.at += self.peek().map_or(0, char::len_utf8);
                }
                '\n' if triple.is_none() => return Err(start),
                '{' if has_fields && rest.starts_with("{{") => self.at += 2,
                '{' if has_fields && nesting < MAX_NESTING => self.field(end, nesting)?,
                _ => self.at += one.len_utf8(),
            }
        }
        Err(start)
    }

    /// A field of an f-string, from `{` to its `}`. Where the string's own end comes first, that is its end: an
    /// older Python's string, or a format behind a colon.
    fn field(&mut self, end: &str, nesting: usize) -> Result<(), usize> {
        let start = self.at;
        let mut depth = 0_usize;
        let mut in_format = false;
        while let Some(one) = self.peek() {
            match one {
                '{' | '[' | '(' => {
                    depth += 1;
                    self.at += 1;
                }
                '}' | ']' | ')' => {
                    depth = depth.saturating_sub(1);
                    self.at += 1;
                    if depth == 0 {
                        return Ok(());
                    }
                }
                ':' if depth == 1 => {
                    in_format = true;
                    self.at += 1;
                }
                '"' | '\'' if in_format && self.rest().starts_with(end) => return Ok(()),
                '"' | '\'' => self.quoted("f", nesting + 1)?,
                '\n' if end.len() == 1 && depth == 0 => return Err(start),
                _ => self.at += one.len_utf8(),
            }
        }
        Err(start)
    }
}

fn is_word(one: char) -> bool {
    one == '_' || one.is_alphanumeric()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        let found = bindings(text);
        assert!(!found.open && found.broken.is_none(), "{text:?}: {found:?}");
        found.names.into_iter().collect()
    }

    #[test]
    fn every_way_to_bind_graph_is_seen() {
        for text in [
            "graph = 1",
            "graph: CompiledGraph = build()",
            "graph = x = build()",
            "x = graph = build()",
            "from .a import graph",
            "from a.b import (\n  c,\n  d as graph,\n)",
            "import graph",
            "import a.b as graph",
            "import graph.inner",
            "if True: graph = 1",
            "if x:\n    graph = 1\nelse:\n    graph = 2",
            "try:\n\tgraph = 1\nexcept E:\n\tpass",
            "def graph(config): ...",
            "async def graph():\n    yield 1",
            "@entrypoint(\n  checkpointer=x,\n)\nasync def graph(x): pass",
            "class graph: pass",
            "a, graph = 1, 2",
            "(a, (graph, *b)) = c",
            "[graph] = c",
            "*graph, a = c",
            "for graph in x: pass",
            "for i, graph in x:\n  pass",
            "with a as b, c(d) as graph: pass",
            "with (a as b, c as graph):\n  pass",
            "async with a as graph: pass",
            "if (graph := build()): pass",
            "print(graph := 3)",
            "a = 1; graph = 2",
            "graph \\\n  = 1",
            "type graph = int",
            "match x:\n  case graph: pass",
            "def f():\n    global graph\n    graph = 1\nf()",
            "x = {'a': 1}\ngraph = x['a']",
            "\u{feff}graph = 1",
            "x = f\"{y[\"a\"]} {z!r:>{w}} {{\"\ngraph = 1",
            "x = f'{a:%H:%M}'\ngraph = 1",
            "x = '''\nif: (\n'''\ngraph = 1",
            "x = lambda: 1\ngraph = 1",
            "if x:\r\n  graph = 1\r\n",
            "graph = 1\ndel other",
            "graph = 1\nif x:\n    del graph",
            "x: dict[str, int] = {}; graph: Any = x",
            "if sys.version > '3': graph = 1",
            "match = re.match(a)\ngraph = match",
            "graph = builder.compile(\n    a=1,  # )\n    b='(',\n)",
        ] {
            let found = bindings(text);
            assert!(found.names.contains("graph") && found.broken.is_none(), "{text:?}: {found:?}");
        }
    }

    #[test]
    fn what_does_not_bind_is_no_binding() {
        for text in [
            "",
            "# graph = 1",
            "'graph = 1'",
            "\"\"\"\ngraph = 1\n\"\"\"",
            "def f():\n    graph = 1",
            "def f(graph): return graph",
            "class A:\n    graph = 1\n\n    def graph(self): pass\n",
            "x.graph = 1",
            "graph.x = 1",
            "graph[0] = 1",
            "x[graph] = 1",
            "graph(1)",
            "graph: CompiledGraph",
            "graph == 1",
            "x = graph",
            "f(graph=1)",
            "x = [graph for graph in y]",
            "graph = 1\ndel graph",
            "from graph import x",
            "import a.graph",
            "from a import graph as x",
            "lambda graph: 1",
            "x = f'{graph}'",
            "def f():\n  x = 1\n\n# c\n  graph = 1",
        ] {
            assert!(!names(text).iter().any(|name| name == "graph"), "{text:?}");
        }
    }

    #[test]
    fn what_cannot_be_told_is_said() {
        for text in [
            "from x import *",
            "globals()['graph'] = 1",
            "exec(x)",
            "def __getattr__(name): ...",
            "setattr(m, 'graph', 1)",
        ] {
            assert!(bindings(text).open, "{text:?}");
        }
        assert_eq!(bindings("x = 1\ny = (\n 2\n").broken, Some(2));
        assert_eq!(bindings("x = 1\n\ny = 'abc\n").broken, Some(3));
        assert_eq!(bindings("x = '''abc\n").broken, Some(1));
    }
}
