//! Child processes: what they inherit, how their pipes are bounded, and that nothing of them stays behind.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use bytes::Bytes;
use nexus::{
    names::UpstreamName,
    reason::{Explanation, Reason},
    secret::Secret,
    sources::MemorySources,
    upstream::{
        Isolation, StderrConfig, StdioConfig,
        transport::stdio::{Child, ChildSpec, Exit, Inbound, Line, Persuasion, SendError},
    },
};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

const GRACE: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(200);

fn shell(script: &str) -> StdioConfig {
    program(&["sh", "-c", script])
}

fn program(cmd: &[&str]) -> StdioConfig {
    StdioConfig {
        cmd: cmd.iter().map(|&part| part.to_owned()).collect(),
        env: BTreeMap::new(),
        cwd: None,
        inherit_env: Vec::new(),
        stderr: StderrConfig::Log,
        isolation: Isolation::Shared,
        startup_timeout: GRACE,
        idle_timeout: GRACE,
        max_processes: 1,
    }
}

async fn spawn_seeing(config: &StdioConfig, sources: &MemorySources, max_line: usize) -> Result<(Child, Inbound), Explanation> {
    let name = UpstreamName::parse("child").expect("a valid name");
    Child::spawn(ChildSpec { name: &name, config, max_line, sources, alive: &TaskTracker::new() }).await
}

async fn try_spawn(config: &StdioConfig) -> Result<(Child, Inbound), Explanation> {
    spawn_seeing(config, &MemorySources::default().with_env("PATH", "/usr/bin:/bin"), 1024).await
}

async fn spawn(config: &StdioConfig) -> (Child, Inbound) {
    try_spawn(config).await.expect("the child starts")
}

async fn next(inbound: &mut Inbound) -> Option<Line> {
    timeout(GRACE, inbound.next()).await.expect("the child says something in time")
}

async fn message(inbound: &mut Inbound) -> String {
    match next(inbound).await {
        Some(Line::Message(bytes)) => String::from_utf8(bytes.to_vec()).expect("UTF-8"),
        other => panic!("expected a message, got {other:?}"),
    }
}

/// The numbers of `{"pid":1,"other":2}`, in order.
fn numbers(text: &str) -> Vec<i32> {
    text.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}

/// Gone, or a zombie that waits for its parent.
fn is_dead(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z')))
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let poll = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(GRACE, poll).await.unwrap_or_else(|_| panic!("{what} did not happen"));
}

#[tokio::test]
async fn messages_go_in_and_out_one_to_a_line() {
    let (child, mut inbound) = spawn(&shell("cat")).await;
    let sender = child.sender();
    sender.send(Bytes::from_static(b"{\n \"id\": 1\n}")).await.expect("taken");
    sender.send(Bytes::from_static(b"{\"id\":2}")).await.expect("taken");
    assert_eq!(message(&mut inbound).await, "{  \"id\": 1 }");
    assert_eq!(message(&mut inbound).await, "{\"id\":2}");

    let report = child.shutdown(GRACE).await;
    assert_eq!((report.exit, report.after), (Some(Exit::Status(0)), Persuasion::StdinClosed));
    assert_eq!(next(&mut inbound).await, None);
    assert_eq!(sender.send(Bytes::from_static(b"{}")).await, Err(SendError::Closed));
}

#[tokio::test]
async fn what_was_queued_before_a_shutdown_still_reaches_the_child() {
    let (child, mut inbound) = spawn(&shell("cat")).await;
    for _ in 0..100 {
        child.sender().send(Bytes::from_static(b"{}")).await.expect("taken");
    }
    assert_eq!(child.shutdown(GRACE).await.after, Persuasion::StdinClosed);
    let mut received = 0;
    while next(&mut inbound).await.is_some() {
        received += 1;
    }
    assert_eq!(received, 100);
}

#[tokio::test]
async fn a_child_sees_its_own_variables_and_no_secret_of_ours() {
    let sources = MemorySources::default()
        .with_env("PATH", "/usr/bin:/bin")
        .with_env("LC_ALL", "C.UTF-8")
        .with_env("CRM_TOKEN", "canary")
        .with_env("HTTPS_PROXY", "http://proxy.example")
        .with_env("WANTED", "yes");
    let mut config = shell("env | sort | tr '\\n' ' ' | sed 's/^/{ /'; echo");
    config.inherit_env = vec!["WANTED".to_owned()];
    config.env.insert("API_KEY".to_owned(), Secret::new("its own"));
    let (_child, mut inbound) = spawn_seeing(&config, &sources, 64 * 1024).await.expect("the child starts");
    let environment = message(&mut inbound).await;
    for expected in ["API_KEY=its own ", "LC_ALL=C.UTF-8 ", "PATH=/usr/bin:/bin ", "WANTED=yes"] {
        assert!(environment.contains(expected), "{expected} is missing from {environment}");
    }
    for secret in ["canary", "HTTPS_PROXY", "CARGO"] {
        assert!(!environment.contains(secret), "{secret} is in {environment}");
    }
}

#[tokio::test]
async fn a_child_has_no_descriptor_but_its_three_pipes() {
    // Not close-on-exec, as one left over by whoever started us.
    let file = fs::File::open("/dev/null").expect("it opens");
    let leaked = rustix::io::fcntl_dupfd_cloexec(&file, 200).expect("a copy");
    rustix::io::fcntl_setfd(&leaked, rustix::io::FdFlags::empty()).expect("the flag is cleared");
    // The shell's own glob opens the folder, hence ls in a child of its own, whose descriptor 3 is that folder.
    let (_child, mut inbound) = spawn(&shell("echo \"{ $(ls /proc/self/fd | tr '\\n' ' ')\"")).await;
    assert_eq!(message(&mut inbound).await, "{ 0 1 2 3");
}

const WITH_GRANDCHILD: &str = "sleep 1000 & echo \"{\\\"grandchild\\\":$!,\\\"child\\\":$$}\"; wait";

#[tokio::test]
async fn dropping_a_child_kills_its_whole_group() {
    let (child, mut inbound) = spawn(&shell(WITH_GRANDCHILD)).await;
    let pids = numbers(&message(&mut inbound).await);
    assert_eq!(pids.last(), Some(&child.pid()));
    assert!(pids.len() == 2 && !pids.iter().any(|&pid| is_dead(pid)));
    drop(child);
    until("the end of the group", || pids.iter().all(|&pid| is_dead(pid))).await;
    until("reaping", || !Path::new(&format!("/proc/{}", pids.last().expect("two"))).exists()).await;
}

#[tokio::test]
async fn a_shutdown_leaves_no_grandchild_behind() {
    let script = format!("{WITH_GRANDCHILD} & read -r line; exit 0");
    let (child, mut inbound) = spawn(&shell(&script)).await;
    let pids = numbers(&message(&mut inbound).await);
    let report = child.shutdown(GRACE).await;
    assert_eq!((report.exit, report.after), (Some(Exit::Status(0)), Persuasion::StdinClosed));
    until("the end of the group", || pids.iter().all(|&pid| is_dead(pid))).await;
}

#[tokio::test]
async fn a_child_that_ignores_the_end_of_stdin_gets_sigterm() {
    let (child, mut inbound) = spawn(&shell("echo '{}'; exec sleep 1000")).await;
    message(&mut inbound).await;
    let report = child.shutdown(SHORT).await;
    assert_eq!(report.to_string(), "killed by SIGTERM after SIGTERM, because it ignored the end of its stdin");
}

#[tokio::test]
async fn a_child_that_ignores_sigterm_is_killed() {
    let (child, mut inbound) = spawn(&shell("trap '' TERM; echo '{}'; while true; do sleep 1000; done")).await;
    message(&mut inbound).await;
    let pid = child.pid();
    let report = child.shutdown(SHORT).await;
    assert_eq!((report.exit, report.after), (Some(Exit::Signal(9)), Persuasion::Killed));
    assert!(!Path::new(&format!("/proc/{pid}")).exists(), "reaped");
}

#[tokio::test]
async fn an_oversized_line_is_skipped_and_the_next_one_arrives() {
    let (_child, mut inbound) =
        spawn(&shell("head -c 3000000 /dev/zero | tr '\\0' 'x'; echo; echo 'ready on stdio'; echo; echo '{\"id\":1}'")).await;
    assert!(matches!(next(&mut inbound).await, Some(Line::TooLong { start }) if start.len() == 1024));
    assert_eq!(next(&mut inbound).await, Some(Line::NotJson { start: "ready on stdio".to_owned() }));
    assert_eq!(message(&mut inbound).await, "{\"id\":1}");
    assert_eq!(next(&mut inbound).await, None);
    assert_eq!(next(&mut inbound).await, None);
}

#[tokio::test]
async fn an_exit_is_explained_by_its_status_and_the_last_stderr_lines() {
    let (_child, mut inbound) =
        spawn(&shell("echo '{}'; for n in 1 2 3 4 5 6 7; do echo \"line $n\" >&2; done; printf 'no \\033[31mtoken' >&2; exit 3")).await;
    message(&mut inbound).await;
    assert_eq!(next(&mut inbound).await, None);
    let explanation = inbound.explain().await;
    assert_eq!(explanation.reason, Reason::Exited);
    assert_eq!(
        explanation.detail,
        "its process ended: exit status 3; it last wrote to stderr: \"line 4\", \"line 5\", \"line 6\", \"line 7\", \"no token\""
    );
}

#[tokio::test]
async fn a_killed_child_is_explained_by_the_signal() {
    let (_child, mut inbound) = spawn(&shell("kill -9 $$")).await;
    assert_eq!(next(&mut inbound).await, None);
    assert_eq!(inbound.explain().await.detail, "its process ended: killed by SIGKILL");
}

#[tokio::test]
async fn a_grandchild_that_keeps_stdout_open_does_not_keep_us_waiting() {
    let (child, mut inbound) = spawn(&shell("sleep 1000 & echo '{}'; exit 4")).await;
    message(&mut inbound).await;
    assert_eq!(next(&mut inbound).await, None);
    assert!(inbound.explain().await.detail.starts_with("its process ended: exit status 4"));
    drop(child);
}

#[tokio::test]
async fn a_closed_stdout_of_a_living_child_is_told_from_an_exit() {
    let (_child, mut inbound) = spawn(&shell("exec >&-; exec sleep 1000")).await;
    assert_eq!(next(&mut inbound).await, None);
    assert_eq!(inbound.explain().await.detail, "its process closed its stdout but still runs");
}

#[tokio::test]
async fn a_child_that_never_reads_fills_its_queue_and_no_more() {
    let (child, _inbound) = spawn(&shell("exec sleep 1000")).await;
    let sender = child.sender();
    let message = Bytes::from(vec![b' '; 12 * 1024 * 1024]);
    // The first is being written, and keeps its room; the second finds none.
    sender.send(message.clone()).await.expect("the first one is queued");
    tokio::time::pause();
    assert_eq!(sender.send(message).await, Err(SendError::Full));
    tokio::time::resume();
    assert_eq!(child.shutdown(SHORT).await.exit, Some(Exit::Signal(15)));
    assert_eq!(sender.send(Bytes::from_static(b"{}")).await, Err(SendError::Closed));
}

#[tokio::test]
async fn a_program_that_is_not_in_the_path_is_named_with_the_path() {
    let refused = try_spawn(&program(&["no-such-program", "--token=hunter2"])).await.expect_err("it does not exist");
    assert_eq!(refused.reason, Reason::SpawnFailed);
    assert_eq!(refused.detail, "the program \"no-such-program\" was not found in PATH (/usr/bin:/bin)");
    assert!(!refused.remedy.contains("hunter2"));

    let mut own_path = program(&["no-such-program"]);
    own_path.env.insert("PATH".to_owned(), Secret::new("/hunter2"));
    assert_eq!(
        try_spawn(&own_path).await.expect_err("no such path").detail,
        "the program \"no-such-program\" was not found in the PATH given in `env`"
    );
}

#[tokio::test]
async fn what_cannot_be_executed_is_refused_with_its_cause() {
    let folder = tempfile::tempdir().expect("a folder");
    let script = folder.path().join("server");
    fs::write(&script, "#!/no/such/interpreter\n").expect("written");
    let path = script.to_str().expect("UTF-8");
    assert!(try_spawn(&program(&[path])).await.expect_err("not executable").detail.contains("may not be executed"));
    fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("set");
    assert!(try_spawn(&program(&[path])).await.expect_err("no interpreter").detail.contains("the interpreter it names"));
    assert!(try_spawn(&program(&["/no/such/server"])).await.expect_err("missing").detail.contains("does not exist"));

    let mut elsewhere = shell("true");
    elsewhere.cwd = Some(folder.path().join("missing"));
    let refused = try_spawn(&elsewhere).await.expect_err("no folder");
    assert!(refused.detail.contains("the folder") && refused.remedy.contains("`cwd`"), "{refused:?}");
}

#[tokio::test]
async fn stderr_can_go_to_a_private_file_that_is_appended_to() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("server.log");
    for word in ["one", "two"] {
        let mut config = shell(&format!("echo {word} >&2"));
        config.stderr = StderrConfig::File(log.clone());
        let (child, mut inbound) = spawn(&config).await;
        assert_eq!(next(&mut inbound).await, None);
        child.shutdown(GRACE).await;
    }
    assert_eq!(fs::read_to_string(&log).expect("written"), "one\ntwo\n");
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&log).expect("there").permissions());
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_child_outlives_the_thread_that_asked_for_it() {
    // The parent-death signal belongs to the thread that spawned: a runtime's thread comes and goes.
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let asked = std::thread::spawn(move || runtime().block_on(async { spawn(&shell("exec sleep 1000")).await.0 }));
    let child = asked.join().expect("spawned");
    let pid = child.pid();
    runtime().block_on(async {
        // Long enough for a signal to arrive, were one sent.
        tokio::time::sleep(SHORT).await;
        assert!(!is_dead(pid));
        drop(child);
        until("the end of the child", || is_dead(pid)).await;
    });
}

#[test]
#[ignore = "the other process of `a_child_dies_with_a_killed_gateway`"]
fn a_gateway_to_be_killed() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        // Ignores the end of its stdin, which a killed gateway leaves behind too.
        let (child, _inbound) = spawn(&shell("exec sleep 1000")).await;
        let told = std::env::var_os("TELL_PID_IN").expect("set by the other test");
        fs::write(&told, child.pid().to_string()).expect("written");
        std::future::pending::<()>().await;
    });
}

#[tokio::test]
async fn a_child_dies_with_a_killed_gateway() {
    let folder = tempfile::tempdir().expect("a folder");
    let told = folder.path().join("pid");
    let mut gateway = std::process::Command::new(std::env::current_exe().expect("our own program"))
        .args(["--exact", "stdio_child::a_gateway_to_be_killed", "--ignored"])
        .env("TELL_PID_IN", &told)
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("it starts");
    let pid = || fs::read_to_string(&told).ok().and_then(|text| text.parse::<i32>().ok());
    until("the start of the child", || pid().is_some()).await;
    let pid = pid().expect("a number");
    assert!(!is_dead(pid));
    gateway.kill().expect("SIGKILL is sent");
    gateway.wait().expect("reaped");
    until("the end of the child", || is_dead(pid)).await;
}
