//! The history of a git repository as an event store: one stream a file, one event a change.
//!
//! ```text
//! cargo run --release --example git_history -- [PATH] [--store DIR] [--as-of TIME]
//! ```
//!
//! It reads `git log` of the repository at PATH (or of the current directory), appends what
//! happened to each file, and then asks the store: which files changed most, what is there now, and
//! what was there at an earlier time. The present state is compared with git's own.
//!
//! * A **stream** is `file-<path>`. Paths are the roots of streams as git has them: any bytes.
//! * An **event** is `FileAdded`, `FileChanged` or `FileDeleted`. It occurred when its author wrote
//!   the change; the commit's id is its correlation id, the author's name is a tag. A renamed file
//!   is deleted under one name and added under the other: git does not record more than that.
//! * A **commit** of git is one commit of the store, so no crash leaves half of it.
//!
//! History is followed along first parents, where a merge is one change with all that it brought.
//! Only so do the changes, one after the other, lead to the tree at HEAD: the branches beside it
//! changed the same files at the same time.

use annals::{Durability, Event, Expected, NewEvent, Options, Store, StreamId, Timestamp, Uuid};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::io::{self, BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

const USAGE: &str = "\
usage: git_history [PATH] [--store DIR] [--as-of TIME]

  PATH          a git repository; the one that this directory belongs to, if missing
  --store DIR   keep the store in DIR, and add only what is new to one that is there
                already; if missing, the store is temporary
  --as-of TIME  the earlier time to look back to, as git reads dates: \"2 years ago\",
                2020-01-31T12:00:00Z, seconds since 1970; if missing, the
                time at which half of the commits had been written";

/// The domain of the streams.
const FILE: &str = "file";
/// Prefix of the tag with the author of a change.
const AUTHOR: &str = "author:";

/// Changes in one commit of the store. One takes less than 5 KiB even if its path is as long as it
/// may be, and a commit may have 64 MiB: a larger commit of git is split.
const MAX_CHANGES: usize = 10_000;

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

/// The data of every event, stored as JSON.
#[derive(Serialize, Deserialize)]
struct Change {
    /// The new content of the file; `None` if it was deleted.
    content: Option<Content>,
    lines: Lines,
    /// The time of the change as the author's clock showed it, with its time zone: the event's
    /// occurred-at is the same point in time without the zone.
    authored: String,
}

/// How many lines were added and removed; `None` if git takes the file for a binary one.
type Lines = Option<(i64, i64)>;

/// The content of a file: git's mode (is it executable, a link …) and the hash of its bytes.
#[derive(Serialize, Deserialize, PartialEq, Clone, Default)]
struct Content {
    mode: String,
    id: String,
}

fn main() -> ExitCode {
    let arguments = match Arguments::parse(std::env::args_os().skip(1)) {
        Ok(Some(arguments)) => arguments,
        Ok(None) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(why) => {
            eprintln!("git_history: {why}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match run(&arguments, &mut io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_broken_pipe(&*error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("git_history: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The reader of the output has seen enough, as `head` has after ten lines.
fn is_broken_pipe(error: &(dyn std::error::Error + 'static)) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

fn run(arguments: &Arguments, out: &mut impl Write) -> Result<()> {
    let git = Git { path: arguments.repository.clone() };
    let Some(head) = git.head()? else {
        writeln!(out, "{} has no commits yet: there is nothing to store.", git.path.display())?;
        return Ok(());
    };
    let place = Place::new(arguments.store.clone());
    let kept = if place.temporary { "temporary, removed at the end" } else { "kept" };
    writeln!(out, "Repository {}, commit {:.12}", git.path.display(), head)?;
    if git.is_shallow()? {
        writeln!(out, "           a shallow clone: its history begins in the middle, with all files added at once")?;
    }
    writeln!(out, "Store      {} ({kept})", place.path.display())?;
    out.flush()?;

    let store = Options::new().durability(Durability::Sync).open(&place.path)?;
    let imported = import(&store, &git, &head)?;
    tell_import(out, &store, &imported)?;
    tell_busiest(out, &store)?;

    let now = replay(&store, None)?;
    writeln!(out, "\nState now, replayed from {} events", now.events)?;
    tell_state(out, &now)?;
    writeln!(out, "  git ls-tree  {}", compare(&now, &git.tree(&head)?))?;

    if let Some((time, why)) = earlier_time(arguments, &git, &store)? {
        let then = replay(&store, Some(time))?;
        writeln!(out, "\nState as of {why}, replayed from the {} events until then", then.events)?;
        tell_state(out, &then)?;
    }
    // A store that is dropped is closed as well, but cannot report errors.
    store.close()?;
    Ok(())
}

// ---- storing ----

/// The result of an import.
#[derive(Default)]
struct Imported {
    commits: u64,
    /// Commits that changed no file.
    empty: u64,
    /// Events that an earlier run has stored.
    found: u64,
    stored: u64,
    /// Time spent in the store, and in all.
    storing: Duration,
    took: Duration,
}

/// Appends the history that leads to `head`, as far as the store does not have it yet.
///
/// Nothing need be remembered for that: positions are dense and git lists its history in the same
/// order each time, so the store's head is the number of changes that it has, and the next one goes
/// after them. That it has *this* history is checked twice: by the commit of its last event, and by
/// the expectations of each append.
fn import(store: &Store, git: &Git, head: &str) -> Result<Imported> {
    let started = Instant::now();
    let mut imported = Imported { found: store.len(), ..Default::default() };
    let mut to_skip = store.len() as usize;
    // How many changes each file has had so far: the sequence of its next event.
    let mut next: HashMap<Vec<u8>, u64> = HashMap::new();

    for commit in git.history(head)? {
        let commit = commit?;
        let changes: Vec<(&Vec<u8>, &FileChange)> = commit.changes.iter().collect();
        let (there, new) = changes.split_at(to_skip.min(changes.len()));
        to_skip -= there.len();
        for (path, _) in there {
            *next.entry(path.to_vec()).or_default() += 1;
        }
        if !there.is_empty() && to_skip == 0 {
            check_last(store, &commit)?;
        }
        for part in new.chunks(MAX_CHANGES) {
            let before = Instant::now();
            append(store, &commit, part, &mut next)?;
            imported.storing += before.elapsed();
        }
        imported.commits += 1;
        imported.empty += u64::from(changes.is_empty());
        imported.stored += new.len() as u64;
    }
    if to_skip > 0 {
        return Err(
            format!("the store holds {to_skip} events more than this history: it is that of another one").into()
        );
    }
    imported.took = started.elapsed();
    Ok(imported)
}

/// The changes of one commit of git, in one commit of the store.
fn append(
    store: &Store,
    commit: &Commit,
    changes: &[(&Vec<u8>, &FileChange)],
    next: &mut HashMap<Vec<u8>, u64>,
) -> Result<()> {
    let mut transaction = store.transaction();
    for (path, file) in changes {
        let mut event = NewEvent::json(file.event_type, &file.change)?
            .correlation_id(&commit.id)
            .tag(format!("{AUTHOR}{}", commit.author));
        if let Some(time) = commit.time {
            event = event.occurred_at(time);
        }
        let next = next.entry(path.to_vec()).or_default();
        transaction = transaction.append(&StreamId::new(FILE, path)?, Expected::Next(*next), [event]);
        *next += 1;
    }
    transaction.commit()?;
    Ok(())
}

/// Checks that the last event of the store belongs to `commit`.
fn check_last(store: &Store, commit: &Commit) -> Result<()> {
    let last = store.read_all().backwards().limit(1).into_iter().next().transpose()?;
    let last = last.as_ref().and_then(Event::correlation_id).unwrap_or("none");
    if last != commit.id {
        return Err(
            format!("the store holds another history: it ends in commit {last}, this one has {}", commit.id).into()
        );
    }
    Ok(())
}

// ---- asking ----

/// What the events add up to.
#[derive(Default)]
struct State {
    events: u64,
    files: BTreeMap<Vec<u8>, File>,
    changes_by: HashMap<String, u64>,
    /// The first and the last change by the time at which they were made, which need not be the
    /// order in which they came.
    earliest: Option<(Timestamp, String)>,
    latest: Option<(Timestamp, String)>,
}

#[derive(Default)]
struct File {
    content: Content,
    lines: i64,
}

impl State {
    /// One step of a replay. Whatever an application wants to know of the past, it asks with a
    /// function like this one.
    fn apply(&mut self, event: &Event) -> Result<()> {
        let change: Change = event.decode()?;
        self.events += 1;
        match change.content {
            Some(content) => {
                let file = self.files.entry(event.root().to_vec()).or_default();
                file.content = content;
                // A file that has become a binary one has no lines any more.
                file.lines = change.lines.map_or(0, |(added, removed)| file.lines + added - removed);
            }
            None => {
                self.files.remove(event.root());
            }
        }
        if let Some(author) = event.tags().find_map(|tag| tag.strip_prefix(AUTHOR)) {
            *self.changes_by.entry(author.to_owned()).or_default() += 1;
        }
        if let Some(time) = event.occurred_at() {
            let here = (time, change.authored);
            if self.earliest.as_ref().is_none_or(|earliest| here < *earliest) {
                self.earliest = Some(here.clone());
            }
            if self.latest.as_ref().is_none_or(|latest| here > *latest) {
                self.latest = Some(here);
            }
        }
        Ok(())
    }
}

/// The state after all events, or after those that had occurred by a certain time.
///
/// Events are applied in the order in which they were stored. Author times do not always rise in
/// that order (a patch may lie around for a year before it is applied), so the state as of a time
/// may hold a change without one that was applied before it and written later.
fn replay(store: &Store, until: Option<Timestamp>) -> Result<State> {
    let mut state = State::default();
    for event in store.read_all() {
        let event = event?;
        let occurred = until.is_none_or(|until| event.occurred_at().is_some_and(|time| time <= until));
        if occurred {
            state.apply(&event)?;
        }
    }
    Ok(state)
}

/// The requested time, or the one in the middle of the history; and its label.
fn earlier_time(arguments: &Arguments, git: &Git, store: &Store) -> Result<Option<(Timestamp, String)>> {
    if let Some(text) = &arguments.as_of {
        let seconds = git.seconds(text)?;
        return Ok(Some((timestamp(seconds), format!("{text} ({seconds} seconds since 1970)"))));
    }
    let mut times = commit_times(store)?;
    times.sort_unstable();
    let middle = times.get(times.len() / 2).copied();
    Ok(middle.map(|time| (time, "the commit in the middle".to_owned())))
}

/// When the commits were written, one time each. The events of a commit are adjacent.
fn commit_times(store: &Store) -> Result<Vec<Timestamp>> {
    let mut times = Vec::new();
    let mut last = String::new();
    for event in store.read_all() {
        let event = event?;
        let commit = event.correlation_id().unwrap_or_default();
        if commit != last {
            times.extend(event.occurred_at());
            last = commit.to_owned();
        }
    }
    Ok(times)
}

/// Returns whether the replayed files are those in git's tree: same names, same modes, same hashes.
fn compare(state: &State, tree: &BTreeMap<Vec<u8>, Content>) -> String {
    let differs = |path: &&Vec<u8>| state.files.get(*path).map(|file| &file.content) != tree.get(*path);
    let only_replayed = state.files.keys().filter(|path| !tree.contains_key(*path));
    let different: Vec<&Vec<u8>> = tree.keys().chain(only_replayed).filter(differs).collect();
    match different.first() {
        None => format!("agrees: the same {} names, modes and contents", tree.len()),
        Some(path) => format!("DIFFERS in {} files, such as {}", different.len(), String::from_utf8_lossy(path)),
    }
}

// ---- telling ----

fn tell_import(out: &mut impl Write, store: &Store, imported: &Imported) -> Result<()> {
    let Imported { commits, empty, found, stored, storing, took } = imported;
    writeln!(out, "\nHistory    {commits} commits along first parents, {empty} of them without a change to a file")?;
    if *found > 0 {
        writeln!(out, "Found      {found} events of it in the store already")?;
    }
    let (storing, took) = (storing.as_secs_f64(), took.as_secs_f64());
    write!(out, "Stored     {stored} events")?;
    if *stored > 0 {
        write!(out, " in {storing:.2} s, commit by commit, each durable: {:.0} events/s", *stored as f64 / storing)?;
    }
    writeln!(out, "\n           {took:.2} s with the time that git took to tell its history")?;
    let stats = store.stats()?;
    let bytes: u64 = stats.segments.iter().map(|segment| segment.bytes).sum();
    let each = bytes.checked_div(stats.events).unwrap_or(0);
    writeln!(out, "Holds      {} events in {} streams", stats.events, stats.streams)?;
    writeln!(out, "           {bytes} bytes on disk, {each} an event; segments: {}", stats.segments.len())?;
    Ok(())
}

fn tell_busiest(out: &mut impl Write, store: &Store) -> Result<()> {
    let mut streams = store.streams("")?;
    streams.sort_by_key(|info| std::cmp::Reverse(info.next_sequence));
    writeln!(out, "\nBusiest streams")?;
    for info in streams.iter().take(5) {
        writeln!(out, "  {:6}  {}", info.next_sequence, info.stream)?;
    }
    let Some(busiest) = streams.first() else { return Ok(()) };
    writeln!(out, "\nNewest events of {}", busiest.stream)?;
    for event in store.read(&busiest.stream).backwards().limit(3) {
        let event = event?;
        let Change { lines, authored, .. } = event.decode()?;
        let (added, removed) = lines.unwrap_or_default();
        let commit = event.correlation_id().unwrap_or_default();
        writeln!(
            out,
            "  {:6}  {authored}  {:<11}  +{added} -{removed}  in {commit:.12}",
            event.sequence(),
            event.event_type()
        )?;
    }
    Ok(())
}

fn tell_state(out: &mut impl Write, state: &State) -> Result<()> {
    if state.events == 0 {
        writeln!(out, "  nothing")?;
        return Ok(());
    }
    let lines: i64 = state.files.values().map(|file| file.lines).sum();
    writeln!(out, "  files        {}, {lines} lines in those that are text", state.files.len())?;
    if let (Some((_, earliest)), Some((_, latest))) = (&state.earliest, &state.latest) {
        writeln!(out, "  changes      from {earliest} to {latest}")?;
    }
    let mut authors: Vec<(&String, &u64)> = state.changes_by.iter().collect();
    // By name if numbers are equal, so that two runs print the same.
    authors.sort_by_key(|&(author, changes)| (std::cmp::Reverse(changes), author));
    let busiest: Vec<String> =
        authors.iter().take(3).map(|(author, changes)| format!("{author} ({changes} changes)")).collect();
    writeln!(out, "  authors      {}, the busiest: {}", authors.len(), busiest.join(", "))?;
    Ok(())
}

// ---- what was asked for, and where the store is ----

#[derive(Default)]
struct Arguments {
    repository: PathBuf,
    store: Option<PathBuf>,
    as_of: Option<String>,
}

impl Arguments {
    /// `None` if help was requested.
    fn parse(mut given: impl Iterator<Item = std::ffi::OsString>) -> Result<Option<Arguments>> {
        let mut repository = None;
        let mut arguments = Arguments::default();
        while let Some(argument) = given.next() {
            match argument.to_str() {
                Some("-h" | "--help") => return Ok(None),
                Some("--store") => arguments.store = Some(given.next().ok_or("--store needs a directory")?.into()),
                Some("--as-of") => {
                    let time = given.next().ok_or("--as-of needs a time")?;
                    arguments.as_of = Some(time.into_string().map_err(|_| "the time is not text")?);
                }
                Some(option) if option.starts_with('-') => return Err(format!("there is no option {option}").into()),
                _ if repository.is_some() => return Err("there can be one PATH only".into()),
                _ => repository = Some(PathBuf::from(argument)),
            }
        }
        arguments.repository = repository.unwrap_or_else(|| ".".into());
        Ok(Some(arguments))
    }
}

/// The place of the store. If it is temporary, its directory is removed when this is dropped, also
/// after an error: the store, which was opened later, is closed by then.
struct Place {
    path: PathBuf,
    temporary: bool,
}

impl Place {
    fn new(asked_for: Option<PathBuf>) -> Place {
        let temporary = asked_for.is_none();
        let path = asked_for
            .unwrap_or_else(|| std::env::temp_dir().join(format!("annals-git-history-{}", Uuid::new_v4().simple())));
        Place { path, temporary }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.temporary
            && self.path.exists()
            && let Err(error) = std::fs::remove_dir_all(&self.path)
        {
            eprintln!("git_history: {} is left behind: {error}", self.path.display());
        }
    }
}

// ---- git ----

/// A commit of git.
struct Commit {
    id: String,
    /// `None` if git cannot tell: broken commits exist.
    time: Option<Timestamp>,
    authored: String,
    author: String,
    /// By path, so that the same commit always has its events in the same order.
    changes: BTreeMap<Vec<u8>, FileChange>,
}

struct FileChange {
    event_type: &'static str,
    change: Change,
}

/// A repository, seen through the `git` command.
struct Git {
    path: PathBuf,
}

impl Git {
    /// The options keep the user's own settings from changing what git prints.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("git");
        // In a hook of git this would name another repository than PATH.
        command.env_remove("GIT_DIR").arg("-C").arg(&self.path);
        for setting in ["log.showRoot=true", "log.showSignature=false", "diff.relative=false"] {
            command.args(["-c", setting]);
        }
        command.args(arguments);
        command
    }

    fn output(&self, arguments: &[&str]) -> Result<Vec<u8>> {
        let output = self.command(arguments).output().map_err(|e| format!("git cannot be started: {e}"))?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).trim().into());
        }
        Ok(output.stdout)
    }

    fn line(&self, arguments: &[&str]) -> Result<String> {
        Ok(String::from_utf8(self.output(arguments)?)?.trim().to_owned())
    }

    /// The commit at HEAD, or `None` if there is none yet.
    fn head(&self) -> Result<Option<String>> {
        // This fails, with git's own message, if there is no repository.
        self.output(&["rev-parse", "--git-dir"])?;
        Ok(self.line(&["rev-parse", "--verify", "--quiet", "HEAD^{commit}"]).ok())
    }

    fn is_shallow(&self) -> Result<bool> {
        Ok(self.line(&["rev-parse", "--is-shallow-repository"])? == "true")
    }

    /// The time that a text means, in seconds since 1970: git parses dates, so this program need
    /// not.
    fn seconds(&self, text: &str) -> Result<i64> {
        let option = self.line(&["rev-parse", &format!("--since={text}")])?;
        let seconds = option.strip_prefix("--max-age=").ok_or("git cannot read the time")?;
        Ok(seconds.parse()?)
    }

    /// All files of a commit.
    fn tree(&self, commit: &str) -> Result<BTreeMap<Vec<u8>, Content>> {
        let listing = self.output(&["ls-tree", "-r", "-z", "--full-tree", commit])?;
        let entries = listing.split(|&byte| byte == 0).filter(|entry| !entry.is_empty());
        entries.map(|entry| tree_entry(entry).ok_or_else(|| unexpected(entry))).collect()
    }

    /// The commits that lead to `head`, oldest first.
    fn history(&self, head: &str) -> Result<History> {
        // With -z, all parts end in NUL and paths are not quoted: nothing that a path may hold can
        // be taken for something else.
        let mut log = self.command(&["log", "-z", "--reverse", "--first-parent", "--diff-merges=first-parent"]);
        log.args(["--raw", "--numstat", "--no-abbrev", "--no-renames", "--no-color", "--encoding=UTF-8"]);
        log.args(["--no-ext-diff", "--no-textconv", "--ignore-submodules=none"]);
        log.args(["--format=commit%x00%H%x00%at%x00%aI%x00%aN", head, "--"]);
        let mut git = log.stdout(Stdio::piped()).spawn().map_err(|e| format!("git cannot be started: {e}"))?;
        let output = git.stdout.take().expect("it is piped");
        Ok(History { git, parts: BufReader::new(output).split(0).peekable() })
    }
}

/// What `git log` prints, commit by commit.
struct History {
    git: Child,
    parts: std::iter::Peekable<io::Split<BufReader<ChildStdout>>>,
}

impl History {
    /// The next part. A line feed is between the head of a commit and its changes; no part but a
    /// path can begin with one, and paths are not read with this function.
    fn part(&mut self) -> Result<Vec<u8>> {
        let mut part = self.parts.next().ok_or("git log ended in the middle of a commit")??;
        if part.first() == Some(&b'\n') {
            part.remove(0);
        }
        Ok(part)
    }

    fn text(&mut self) -> Result<String> {
        Ok(String::from_utf8_lossy(&self.part()?).into_owned())
    }

    /// Whether the next part begins another commit, or there is none.
    fn at_commit(&mut self) -> bool {
        match self.parts.peek() {
            Some(Ok(part)) => part == b"commit",
            // The caller that takes the part returns the error.
            Some(Err(_)) => false,
            None => true,
        }
    }

    fn commit(&mut self) -> Result<Commit> {
        let start = self.part()?;
        if start != b"commit" {
            return Err(unexpected(&start));
        }
        let mut commit = Commit {
            id: self.text()?,
            time: self.text()?.parse().ok().map(timestamp),
            authored: self.text()?,
            // A tag has at most 1,024 bytes.
            author: self.text()?.chars().take(200).collect(),
            changes: BTreeMap::new(),
        };
        while !self.at_commit() {
            self.change(&mut commit)?;
        }
        Ok(commit)
    }

    /// Parses a part of a commit: the new content of a file
    /// (`:old-mode new-mode old-id new-id status`, and its path in a part of its own), or how many
    /// lines have changed (`added removed path`, with tabs).
    fn change(&mut self, commit: &mut Commit) -> Result<()> {
        let part = self.part()?;
        if let Some(raw) = part.strip_prefix(b":") {
            let path = self.parts.next().ok_or_else(|| unexpected(&part))??;
            let change = file_change(raw, &commit.authored).ok_or_else(|| unexpected(&part))?;
            commit.changes.insert(path, change);
        } else {
            let (path, lines) = line_counts(&part).ok_or_else(|| unexpected(&part))?;
            let file = commit.changes.get_mut(path).ok_or_else(|| unexpected(&part))?;
            file.change.lines = lines;
        }
        Ok(())
    }
}

impl Iterator for History {
    type Item = Result<Commit>;

    fn next(&mut self) -> Option<Result<Commit>> {
        if self.parts.peek().is_some() {
            return Some(self.commit());
        }
        // git has printed the reason on stderr.
        match self.git.wait() {
            Ok(status) if status.success() => None,
            Ok(status) => Some(Err(format!("git log failed: {status}").into())),
            Err(error) => Some(Err(error.into())),
        }
    }
}

fn file_change(raw: &[u8], authored: &str) -> Option<FileChange> {
    let fields: Vec<&str> = str::from_utf8(raw).ok()?.split(' ').collect();
    let [_, mode, _, id, status] = fields[..] else { return None };
    let content = Content { mode: mode.to_owned(), id: id.to_owned() };
    let (event_type, content) = match status {
        "A" => ("FileAdded", Some(content)),
        "D" => ("FileDeleted", None),
        _ => ("FileChanged", Some(content)),
    };
    Some(FileChange { event_type, change: Change { content, lines: None, authored: authored.to_owned() } })
}

/// The path, and the lines added and removed. git writes `-` for both if the file is a binary one.
fn line_counts(part: &[u8]) -> Option<(&[u8], Lines)> {
    let mut fields = part.splitn(3, |&byte| byte == b'\t');
    let (added, removed, path) = (fields.next()?, fields.next()?, fields.next()?);
    if added == b"-" {
        return Some((path, None));
    }
    let count = |digits| str::from_utf8(digits).ok()?.parse::<i64>().ok();
    Some((path, Some((count(added)?, count(removed)?))))
}

/// An entry of a tree: `mode type id`, a tab, and the path.
fn tree_entry(entry: &[u8]) -> Option<(Vec<u8>, Content)> {
    let tab = entry.iter().position(|&byte| byte == b'\t')?;
    let fields: Vec<&str> = str::from_utf8(&entry[..tab]).ok()?.split(' ').collect();
    let [mode, _, id] = fields[..] else { return None };
    Some((entry[tab + 1..].to_vec(), Content { mode: mode.to_owned(), id: id.to_owned() }))
}

fn timestamp(seconds: i64) -> Timestamp {
    Timestamp::from_nanos(seconds.saturating_mul(1_000_000_000))
}

fn unexpected(part: &[u8]) -> Box<dyn std::error::Error> {
    format!("git printed something that this program does not know: {}", part.escape_ascii()).into()
}
