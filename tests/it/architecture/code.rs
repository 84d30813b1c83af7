//! Reads Rust sources as tokens: which modules there are, what each defines, imports and names, and how long its
//! functions are. What is compiled for tests alone is left out.

use proc_macro2::{Delimiter, Group, Spacing, TokenStream, TokenTree};
use std::collections::{BTreeMap, BTreeSet};

/// `["image", "build"]`; the crate's root is empty.
pub type Path = Vec<String>;

/// A module, in a file of its own or inline.
#[derive(Debug, Default)]
pub struct Module {
    /// The module whose file it is in: itself, but for one that is inline.
    pub file: Path,
    /// What it defines.
    pub items: BTreeSet<String>,
    /// Its `use` declarations, one a name.
    pub uses: Vec<Use>,
    /// The identifiers outside of `use` declarations.
    pub identifiers: BTreeSet<String>,
}

/// One name of a `use` declaration.
#[derive(Debug)]
pub struct Use {
    pub segments: Path,
    /// What it is called here; `*` for a glob.
    pub name: String,
    pub is_public: bool,
    /// `src/image/build.rs:12`
    pub place: String,
}

/// A path in an expression, a type, a macro or serde's attribute.
#[derive(Debug)]
pub struct Mention {
    /// The module it is in.
    pub module: Path,
    pub segments: Path,
    pub place: String,
}

#[derive(Debug)]
pub struct Function {
    pub name: String,
    pub place: String,
    /// Lines of its body that hold code.
    pub lines: usize,
}

/// What was read.
#[derive(Debug, Default)]
pub struct Code {
    pub modules: BTreeMap<Path, Module>,
    pub mentions: Vec<Mention>,
    pub functions: Vec<Function>,
    tests: BTreeSet<Path>,
}

/// Keywords that a module's item begins with, before its name.
const ITEMS: [&str; 8] = ["struct", "enum", "union", "fn", "const", "static", "type", "trait"];

impl Code {
    /// Reads sources, each a path below `src/` and its text.
    pub fn read(sources: &[(String, String)]) -> Self {
        let mut code = Self::default();
        code.modules.entry(Path::new()).or_default();
        for (path, text) in sources {
            let tokens: TokenStream = text.parse().unwrap_or_else(|error| panic!("src/{path}: {error}"));
            let module = module_of(path);
            let mut reader = Reader { code: &mut code, path, file: module.clone() };
            reader.open(&module);
            reader.module(&tokens.into_iter().collect::<Vec<_>>(), &module, true);
        }
        let tests = std::mem::take(&mut code.tests);
        let is_test = |module: &Path| (1..=module.len()).any(|end| tests.contains(&module[..end]));
        code.modules.retain(|path, _| !is_test(path));
        code.mentions.retain(|mention| !is_test(&mention.module));
        code
    }
}

/// `image/push/mod.rs` is `image::push`.
fn module_of(path: &str) -> Path {
    let path = path.strip_suffix(".rs").unwrap_or(path);
    let path = path.strip_suffix("/mod").unwrap_or(path);
    path.split('/').filter(|part| *part != "lib").map(ToOwned::to_owned).collect()
}

struct Reader<'a> {
    code: &'a mut Code,
    path: &'a str,
    file: Path,
}

impl Reader<'_> {
    fn open(&mut self, module: &Path) {
        self.code.modules.entry(module.clone()).or_default().file.clone_from(&self.file);
    }

    fn own(&mut self, module: &Path) -> &mut Module {
        self.code.modules.entry(module.clone()).or_default()
    }

    fn place(&self, token: &TokenTree) -> String {
        format!("src/{}:{}", self.path, token.span().start().line)
    }

    /// The tokens of a module, or of a group in it.
    fn module(&mut self, tokens: &[TokenTree], module: &Path, is_module_level: bool) {
        let mut at = 0;
        while at < tokens.len() {
            at = self.token(tokens, at, module, is_module_level);
        }
    }

    /// Reads what begins at `at`; where the next begins.
    fn token(&mut self, tokens: &[TokenTree], at: usize, module: &Path, is_module_level: bool) -> usize {
        let next = tokens.get(at + 1);
        match &tokens[at] {
            TokenTree::Punct(mark) if mark.as_char() == '#' => match attribute(next) {
                Some(attribute) => self.attribute(attribute, tokens, at, module),
                None => at + 1,
            },
            TokenTree::Group(group) => {
                self.module(&group.stream().into_iter().collect::<Vec<_>>(), module, false);
                at + 1
            }
            TokenTree::Ident(ident) => {
                let word = ident.to_string();
                match (word.as_str(), next.and_then(name)) {
                    // `pub(in crate::store)` says who may see it.
                    ("pub", None) if matches!(next, Some(TokenTree::Group(_))) => at + 2,
                    ("use", _) if !next.is_some_and(|next| is_mark(next, '<')) => self.uses(tokens, at, module),
                    ("mod", Some(child)) => self.child(tokens, at, module, &child),
                    (_, found) => {
                        if let (true, Some(found)) = (is_module_level && ITEMS.contains(&&*word), &found) {
                            self.own(module).items.insert(found.clone());
                        }
                        if word == "fn"
                            && let Some(name) = found
                        {
                            self.function(tokens, at, name);
                        }
                        self.path(tokens, at, module, word)
                    }
                }
            }
            _ => at + 1,
        }
    }

    fn attribute(&mut self, group: &Group, tokens: &[TokenTree], at: usize, module: &Path) -> usize {
        let inner: Vec<TokenTree> = group.stream().into_iter().collect();
        match inner.first().and_then(name).as_deref() {
            Some("cfg") if group.stream().to_string().replace(' ', "") == "cfg(test)" => {
                self.leave_out(tokens, at + 2, module)
            }
            Some("serde") => {
                for token in inner.get(1).into_iter().flat_map(contents) {
                    let text = token.to_string();
                    let segments: Path = text.trim_matches('"').split("::").map(ToOwned::to_owned).collect();
                    if text.starts_with('"') && segments.len() > 1 {
                        let place = self.place(&token);
                        self.code.mentions.push(Mention { module: module.clone(), segments, place });
                    }
                }
                at + 2
            }
            _ => at + 2,
        }
    }

    /// Passes over an item that is for tests alone.
    fn leave_out(&mut self, tokens: &[TokenTree], from: usize, module: &Path) -> usize {
        let mut at = from;
        while let Some(token) = tokens.get(at) {
            if name(token).as_deref() == Some("mod")
                && let Some(child) = tokens.get(at + 1).and_then(name)
            {
                self.code.tests.insert(joined(module, &child));
            }
            at += 1;
            let is_body = matches!(token, TokenTree::Group(group) if group.delimiter() == Delimiter::Brace);
            if is_body || is_mark(token, ';') || is_mark(token, ',') {
                break;
            }
        }
        at
    }

    fn child(&mut self, tokens: &[TokenTree], at: usize, module: &Path, child: &str) -> usize {
        if let Some(TokenTree::Group(body)) = tokens.get(at + 2) {
            let inner = joined(module, child);
            self.open(&inner);
            self.module(&body.stream().into_iter().collect::<Vec<_>>(), &inner, true);
        }
        at + 3
    }

    fn uses(&mut self, tokens: &[TokenTree], at: usize, module: &Path) -> usize {
        let before = |back: usize| at.checked_sub(back).and_then(|at| tokens.get(at));
        let is_pub = |token: Option<&TokenTree>| token.and_then(name).as_deref() == Some("pub");
        let is_public = is_pub(before(1)) || (matches!(before(1), Some(TokenTree::Group(_))) && is_pub(before(2)));
        let end = tokens[at..].iter().position(|token| is_mark(token, ';')).map_or(tokens.len(), |length| at + length);
        self.use_tree(&tokens[at + 1..end], &Path::new(), module, is_public);
        end + 1
    }

    fn use_tree(&mut self, tokens: &[TokenTree], before: &Path, module: &Path, is_public: bool) {
        for tokens in tokens.split(|token| is_mark(token, ',')) {
            let mut segments = before.clone();
            let mut called = None;
            let mut tokens = tokens.iter();
            let (mut place, mut is_list) = (None, false);
            while let Some(token) = tokens.next() {
                match token {
                    TokenTree::Group(list) => {
                        let list: Vec<TokenTree> = list.stream().into_iter().collect();
                        self.use_tree(&list, &segments, module, is_public);
                        is_list = true;
                    }
                    TokenTree::Ident(ident) if ident == "as" => called = tokens.next().and_then(name),
                    TokenTree::Ident(ident) => segments.push(ident.to_string()),
                    other if is_mark(other, '*') => called = Some("*".to_owned()),
                    _ => {}
                }
                place = place.or_else(|| Some(self.place(token)));
            }
            let (false, Some(place)) = (is_list, place) else { continue };
            if segments.len() > 1 {
                segments.pop_if(|last| last == "self");
            }
            let Some(name) = called.or_else(|| segments.last().cloned()) else { continue };
            self.own(module).uses.push(Use { segments, name, is_public, place });
        }
    }

    /// A path that begins at `at`, or one word.
    fn path(&mut self, tokens: &[TokenTree], at: usize, module: &Path, word: String) -> usize {
        let place = self.place(&tokens[at]);
        self.own(module).identifiers.insert(word.clone());
        let mut segments = vec![word];
        let mut end = at + 1;
        while is_path_mark(tokens, end)
            && let Some(segment) = tokens.get(end + 2).and_then(name)
        {
            segments.push(segment);
            end += 3;
        }
        let goes_on = at >= 2 && is_path_mark(tokens, at - 2);
        if segments.len() > 1 && !goes_on {
            self.code.mentions.push(Mention { module: module.clone(), segments, place });
        }
        end
    }

    fn function(&mut self, tokens: &[TokenTree], at: usize, name: String) {
        let body = tokens[at..].iter().take_while(|token| !is_mark(token, ';')).find_map(|token| match token {
            TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => Some(group),
            _ => None,
        });
        let Some(body) = body else { return };
        let mut lines = BTreeSet::new();
        lines_of(body.stream(), &mut lines);
        lines.remove(&body.span_open().start().line);
        lines.remove(&body.span_close().start().line);
        let place = self.place(&tokens[at]);
        self.code.functions.push(Function { name, place, lines: lines.len() });
    }
}

/// The lines that hold tokens. A doc comment counts as none.
fn lines_of(tokens: TokenStream, lines: &mut BTreeSet<usize>) {
    for token in tokens {
        lines.extend(
            token.span().start().line..=match &token {
                TokenTree::Group(_) => token.span().start().line,
                _ => token.span().end().line,
            },
        );
        if let TokenTree::Group(group) = token {
            lines.insert(group.span_close().start().line);
            lines_of(group.stream(), lines);
        }
    }
}

fn attribute(token: Option<&TokenTree>) -> Option<&Group> {
    match token {
        Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Bracket => Some(group),
        _ => None,
    }
}

fn contents(token: &TokenTree) -> Vec<TokenTree> {
    match token {
        TokenTree::Group(group) => group.stream().into_iter().collect(),
        _ => Vec::new(),
    }
}

fn name(token: &TokenTree) -> Option<String> {
    match token {
        TokenTree::Ident(ident) => Some(ident.to_string()),
        _ => None,
    }
}

fn is_mark(token: &TokenTree, mark: char) -> bool {
    matches!(token, TokenTree::Punct(found) if found.as_char() == mark)
}

/// Whether `::` stands at `at`.
fn is_path_mark(tokens: &[TokenTree], at: usize) -> bool {
    let first = matches!(tokens.get(at), Some(TokenTree::Punct(mark)) if mark.as_char() == ':' && mark.spacing() == Spacing::Joint);
    first && tokens.get(at + 1).is_some_and(|token| is_mark(token, ':'))
}

fn joined(module: &Path, child: &str) -> Path {
    module.iter().cloned().chain([child.to_owned()]).collect()
}
