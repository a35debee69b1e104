//! String literals of a file, with their lines: plain ones and those inside macro calls and attributes.
//!
//! Doc comments are no literals here, although the parser sees them as such. Read next: `sql.rs`.

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};

pub(crate) struct Literal {
    pub(crate) line: usize,
    pub(crate) text: String,
    /// Inside a module or function of `#[cfg(test)]`.
    pub(crate) in_test: bool,
}

pub(crate) fn of(file: &syn::File) -> Vec<Literal> {
    let mut visitor = Literals { found: Vec::new(), test_depth: 0 };
    visitor.visit_file(file);
    visitor.found
}

struct Literals {
    found: Vec<Literal>,
    test_depth: usize,
}

impl Literals {
    fn push(&mut self, literal: &syn::LitStr) {
        let line = literal.span().start().line;
        self.found.push(Literal { line, text: literal.value(), in_test: self.test_depth > 0 });
    }

    fn tokens(&mut self, tokens: TokenStream) {
        for token in tokens {
            match token {
                TokenTree::Group(group) => self.tokens(group.stream()),
                TokenTree::Literal(literal) => {
                    if let syn::Lit::Str(text) = syn::Lit::new(literal) {
                        self.push(&text);
                    }
                }
                TokenTree::Ident(_) | TokenTree::Punct(_) => {}
            }
        }
    }
}

impl<'ast> Visit<'ast> for Literals {
    fn visit_lit_str(&mut self, literal: &'ast syn::LitStr) {
        self.push(literal);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.tokens(call.tokens.clone());
    }

    fn visit_attribute(&mut self, attribute: &'ast syn::Attribute) {
        if let syn::Meta::List(list) = &attribute.meta {
            self.tokens(list.tokens.clone());
        }
    }

    fn visit_item(&mut self, item: &'ast syn::Item) {
        let is_test = match item {
            syn::Item::Mod(module) => is_for_tests(&module.attrs),
            syn::Item::Fn(function) => is_for_tests(&function.attrs),
            syn::Item::Impl(block) => is_for_tests(&block.attrs),
            _ => false,
        };
        self.test_depth += usize::from(is_test);
        visit::visit_item(self, item);
        self.test_depth -= usize::from(is_test);
    }
}

/// `#[cfg(test)]`, `#[cfg(all(test, …))]`.
fn is_for_tests(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        syn::Meta::List(list) if list.path.is_ident("cfg") => {
            let text = list.tokens.to_string();
            text == "test" || text.starts_with("all (test ,") || text.starts_with("all(test,")
        }
        _ => false,
    })
}

#[test]
fn literals_are_found_in_macros_and_not_in_doc_comments() {
    let text = [
        "/// \"select in a comment\"",
        "fn a() { query!(\"select 1\", [b(\"in a group\")]); }",
        "#[cfg(test)]",
        "mod t { const A: &str = \"in a test\"; }",
        "#[cfg(not(test))]",
        "mod u { const B: &str = \"x\"; }",
    ];
    let file = syn::parse_file(&text.join("\n")).expect("this is Rust");
    let found: Vec<_> = of(&file).into_iter().map(|one| (one.line, one.text, one.in_test)).collect();
    let expected =
        [(2, "select 1", false), (2, "in a group", false), (4, "in a test", true), (6, "x", false)];
    assert_eq!(found, expected.map(|(line, text, in_test)| (line, text.to_owned(), in_test)));
}
