//! What the classic builder prints, line by line.

/// One thing that the builder says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// `Step 3/9 : RUN …`
    Step {
        /// From 1.
        number: usize,
        /// How many there are.
        total: usize,
        /// The instruction.
        instruction: String,
    },
    /// ` ---> Using cache`
    Cached,
    /// ` ---> 0123456789ab`: the step has come to this image.
    Image(String),
    /// What a command prints.
    Output(String),
}

/// Puts lines together (the engine cuts where it likes) and reads them.
#[derive(Debug, Default)]
pub struct Parser {
    rest: String,
}

impl Parser {
    /// Takes some more output.
    pub fn push(&mut self, text: &str) -> Vec<Event> {
        self.rest.push_str(text);
        let mut events = Vec::new();
        while let Some(end) = self.rest.find('\n') {
            let line: String = self.rest.drain(..=end).collect();
            events.extend(read(&line));
        }
        events
    }

    /// The last line, where it has no end.
    pub fn finish(&mut self) -> Vec<Event> {
        read(&std::mem::take(&mut self.rest)).into_iter().collect()
    }
}

fn read(line: &str) -> Option<Event> {
    let line = plain(line);
    let line = line.trim_end();
    if let Some(rest) = line.strip_prefix(" ---> ") {
        let is_image = rest.len() == 12 && rest.bytes().all(|byte| byte.is_ascii_hexdigit());
        let image = || is_image.then(|| Event::Image(rest.to_owned()));
        return if rest == "Using cache" { Some(Event::Cached) } else { image() };
    }
    if let Some((count, instruction)) = line.strip_prefix("Step ").and_then(|rest| rest.split_once(" : "))
        && let Some((number, total)) = count.split_once('/')
        && let (Ok(number), Ok(total)) = (number.parse(), total.parse())
    {
        return Some(Event::Step { number, total, instruction: instruction.to_owned() });
    }
    let own = [
        "Removing intermediate container ",
        "Removed intermediate container ",
        "Successfully built ",
        "Successfully tagged ",
    ];
    if line.is_empty() || own.iter().any(|start| line.starts_with(start)) {
        return None;
    }
    Some(Event::Output(line.to_owned()))
}

/// Without colours (the engine paints what comes from stderr) and other control sequences.
fn plain(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    let mut characters = line.chars().peekable();
    while let Some(character) = characters.next() {
        if character == '\u{1b}' && characters.peek() == Some(&'[') {
            for part in characters.by_ref().skip(1) {
                if ('@'..='~').contains(&part) {
                    break;
                }
            }
        } else if character == '\t' || !character.is_control() {
            text.push(character);
        }
    }
    text
}

/// Words that begin what a resolver has to say.
const RESOLUTION: [&str; 4] = [
    "No solution found when resolving",
    "was not found in the package registry",
    "Failed to parse",
    "Couldn't parse requirement",
];

/// Whether a line begins what a resolver has to say.
pub fn begins_resolution(line: &str) -> bool {
    RESOLUTION.iter().any(|mark| line.contains(mark))
}

/// What uv said of dependencies that do not resolve, or do not exist, where `said` are the lines from the first of it
/// on. `None` where the step's `last` lines tell another reason (no network, a build that broke, no space).
pub fn resolution_failure(said: &[String], last: &[String]) -> Option<String> {
    const TRANSPORT: [&str; 6] = [
        "error sending request",
        "dns error",
        "Could not connect",
        "timed out",
        "invalid peer certificate",
        "Connection refused",
    ];
    if said.is_empty() || said.iter().chain(last).any(|line| TRANSPORT.iter().any(|mark| line.contains(mark))) {
        return None;
    }
    let unframed = said.iter().map(|line| {
        let line = line.trim_start_matches(|one: char| " ×╰─▶│├".contains(one));
        // The error is ours, and there is one of it.
        ["error: ", "cause: "].iter().find_map(|label| line.strip_prefix(label)).unwrap_or(line)
    });
    Some(unframed.collect::<Vec<_>>().join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_put_together_and_read() {
        let mut parser = Parser::default();
        let mut events = parser.push("Step 1/2 : FROM x\n ---> 0123456789ab\nStep 2/2 : RUN echo");
        events.extend(parser.push(" hi\n ---> Using cache\n ---> Running in 1\n\u{1b}[91mhello\u{1b}[0m\n\nRemoving intermediate container 1\nSuccessfully built 2\nlast"));
        events.extend(parser.finish());
        let step = |number, instruction: &str| Event::Step { number, total: 2, instruction: instruction.into() };
        let output = |text: &str| Event::Output(text.into());
        let want = [
            step(1, "FROM x"),
            Event::Image("0123456789ab".into()),
            step(2, "RUN echo hi"),
            Event::Cached,
            output("hello"),
            output("last"),
        ];
        assert_eq!(events, want);
    }

    #[test]
    fn what_uv_says_is_told_from_a_network_that_fails() {
        let lines = |text: &str| -> Vec<String> {
            text.lines().skip_while(|line| !begins_resolution(line)).map(str::to_owned).collect()
        };
        let said = "Using Python\n  × No solution found when resolving dependencies:\n  ╰─▶ Because a==1 depends on b<2,\n      your requirements are unsatisfiable.";
        assert_eq!(
            resolution_failure(&lines(said), &[]).unwrap(),
            "No solution found when resolving dependencies:\nBecause a==1 depends on b<2,\nyour requirements are unsatisfiable."
        );
        assert_eq!(
            resolution_failure(&lines("error: No solution found when resolving\ncause: Because you"), &[]).unwrap(),
            "No solution found when resolving\nBecause you"
        );
        assert_eq!(
            resolution_failure(&lines("error: Failed to fetch: `https://i`\n  Caused by: error sending request"), &[]),
            None
        );
        let broken = "No solution found when resolving dependencies:\n  Caused by: dns error";
        assert_eq!(resolution_failure(&lines(broken), &[]), None);
    }
}
