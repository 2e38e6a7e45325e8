//! Programs that people run under `exec`, each against a service of a peer: what they find in their
//! environment is enough for them.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use crate::exec::exec;
use crate::forward::Postgres;
use crate::lab::{Device, Lab};
use crate::process::{
    LONGEST, Program, command, find, installed, python_with, run, skipped, until,
};
use crate::service::Service;

/// `laptop` and a `web` that serves `files` on port 80, by their paths.
struct Site {
    laptop: Device,
    web: Device,
    lab: Lab,
    _service: Service,
}

impl Site {
    fn of(files: BTreeMap<String, Vec<u8>>) -> Self {
        let files = Arc::new(files);
        let service = Service::start(move |mut stream| {
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            while let Some(Ok(first)) = lines.next() {
                let target = first.split(' ').nth(1).unwrap_or_default().to_owned();
                let path = target.split('?').next().unwrap_or_default();
                while lines
                    .next()
                    .is_some_and(|line| line.is_ok_and(|line| !line.is_empty()))
                {}
                let (status, body) = match files.get(&path.replace("/./", "/")) {
                    Some(body) => ("200 OK", body.as_slice()),
                    None => ("404 Not Found", b"".as_slice()),
                };
                let head = format!(
                    "HTTP/1.1 {status}\r\nContent-Length: {}\r\nContent-Type: {}\r\n\r\n",
                    body.len(),
                    kind(path),
                );
                let body = if first.starts_with("HEAD ") {
                    b""
                } else {
                    body
                };
                if stream.write_all(&[head.as_bytes(), body].concat()).is_err() {
                    return;
                }
            }
        });
        let lab = Lab::start();
        let (laptop, web) = lab.pair();
        web.serve(80, service.address());
        Self {
            laptop,
            web,
            lab,
            _service: service,
        }
    }

    /// `program` under `exec`, with a home of its own.
    fn run(&self, program: &[&str], variables: &[(&str, &str)]) -> crate::process::Outcome {
        let home = self.lab.path("home");
        fs::create_dir_all(&home).unwrap();
        let mut exec = exec(&self.laptop, &["--"]);
        exec.args(program).env("HOME", &home).current_dir(&home);
        run(exec.envs(variables.iter().copied()), "")
    }
}

fn kind(path: &str) -> &'static str {
    match path.rsplit_once('.') {
        Some((_, "json")) => "application/json",
        Some((_, "whl" | "crate")) => "application/octet-stream",
        Some(_) | None if path.starts_with("/npm/") => "application/json",
        Some(_) | None if path.starts_with("/simple/") => "text/html",
        Some(_) | None => "text/plain",
    }
}

fn files<const N: usize>(files: [(&str, &[u8]); N]) -> BTreeMap<String, Vec<u8>> {
    let owned = |(path, body): (&str, &[u8])| (path.to_owned(), body.to_vec());
    files.into_iter().map(owned).collect()
}

#[test]
fn pip_and_httpx_reach_an_index_of_a_peer() {
    let (Some(pip), Some(httpx)) = (python_with("pip"), python_with("httpx")) else {
        return;
    };
    let made = tempfile::tempdir().unwrap();
    let wheel = made.path().join("greeting-1.0-py3-none-any.whl");
    let script = "
import sys, zipfile
with zipfile.ZipFile(sys.argv[1], 'w') as wheel:
    wheel.writestr('greeting.py', 'text = \"hello\"\\n')
    info = 'greeting-1.0.dist-info/'
    wheel.writestr(info + 'METADATA', 'Metadata-Version: 2.1\\nName: greeting\\nVersion: 1.0\\n')
    wheel.writestr(info + 'WHEEL', 'Wheel-Version: 1.0\\nGenerator: test\\n'
        'Root-Is-Purelib: true\\nTag: py3-none-any\\n')
    wheel.writestr(info + 'RECORD', '')
";
    run(command(&pip).args(["-c", script]).arg(&wheel), "").ok();
    let page = b"<html><body><a href=\"/greeting-1.0-py3-none-any.whl\">\
                 greeting-1.0-py3-none-any.whl</a></body></html>";
    let site = Site::of(files([
        ("/simple/greeting/", page),
        ("/greeting-1.0-py3-none-any.whl", &fs::read(&wheel).unwrap()),
        ("/", b"a page of web"),
    ]));
    let index = format!("http://{}/simple/", site.web.name);
    let target = site.lab.path("packages");
    let target = target.to_str().unwrap();
    let install = [
        &pip,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-cache-dir",
        "--disable-pip-version-check",
        "--target",
        target,
        "--index-url",
        &index,
        "--trusted-host",
        &site.web.name,
        "greeting",
    ];
    site.run(&install, &[]).ok();
    let greeting = ["-c", "import greeting; print(greeting.text)"];
    assert_eq!(
        run(command(&pip).args(greeting).env("PYTHONPATH", target), "").ok(),
        "hello"
    );

    let url = format!("http://{}/", site.web.name);
    let get = "import httpx, sys; print(httpx.get(sys.argv[1]).text)";
    assert_eq!(
        site.run(&[&httpx, "-c", get, &url], &[]).ok(),
        "a page of web"
    );
}

#[test]
fn npm_git_and_kubectl_reach_a_peer() {
    if !installed(&["npm", "git", "kubectl"]) {
        return;
    }
    let package = br#"{"name":"greeting","dist-tags":{"latest":"1.0.0"},"versions":{"1.0.0":{
        "name":"greeting","version":"1.0.0","dist":{"tarball":"http://nowhere.invalid/x.tgz",
        "shasum":"0000000000000000000000000000000000000000"}}}}"#;
    let commit = "0123456789012345678901234567890123456789";
    let refs = format!("{commit}\trefs/heads/main\n");
    let site = Site::of(files([
        ("/npm/greeting", package),
        ("/project.git/info/refs", refs.as_bytes()),
        ("/project.git/HEAD", b"ref: refs/heads/main\n"),
        ("/version", b"{\"gitVersion\": \"of web\"}"),
    ]));
    let registry = format!("--registry=http://{}/npm/", site.web.name);
    let view = [
        "npm",
        "view",
        &registry,
        "--no-update-notifier",
        "greeting",
        "version",
    ];
    assert_eq!(site.run(&view, &[]).ok(), "1.0.0");
    let repository = format!("http://{}/project.git", site.web.name);
    let told = site.run(&["git", "ls-remote", &repository], &[]).ok();
    assert!(told.contains(commit), "{told}");
    // A static program in Go.
    let server = format!("--server=http://{}", site.web.name);
    let raw = [
        "kubectl",
        &server,
        "--kubeconfig=/dev/null",
        "get",
        "--raw",
        "/version",
    ];
    assert_eq!(site.run(&raw, &[]).ok(), "{\"gitVersion\": \"of web\"}");
}

#[test]
fn cargo_reaches_a_registry_of_a_peer() {
    if !installed(&["tar", "sha256sum"]) {
        return;
    }
    let Some(cargo) = option_env!("CARGO").filter(|cargo| Path::new(cargo).is_file()) else {
        return skipped("the cargo that built this is not here");
    };
    let rustc = Path::new(cargo).with_file_name("rustc");
    let made = tempfile::tempdir().unwrap();
    let package = made.path().join("greeting-1.0.0");
    fs::create_dir_all(package.join("src")).unwrap();
    let manifest = "[package]\nname = \"greeting\"\nversion = \"1.0.0\"\nedition = \"2021\"\n";
    fs::write(package.join("Cargo.toml"), manifest).unwrap();
    fs::write(package.join("src/lib.rs"), "").unwrap();
    let archive = made.path().join("greeting-1.0.0.crate");
    let mut tar = command("tar");
    tar.current_dir(made.path())
        .arg("-czf")
        .arg(&archive)
        .arg("greeting-1.0.0");
    run(&mut tar, "").ok();
    let sum = run(command("sha256sum").arg(&archive), "").ok();
    let sum = sum.split(' ').next().unwrap();
    let entry = format!(
        "{{\"name\":\"greeting\",\"vers\":\"1.0.0\",\"deps\":[],\"cksum\":\"{sum}\",\
         \"features\":{{}},\"yanked\":false}}\n"
    );
    // The name of the peer is known from the deployment alone.
    let name = format!("web.{}.{}", crate::lab::NETWORK, crate::lab::DOMAIN);
    let config = format!("{{\"dl\":\"http://{name}/crates/{{crate}}-{{version}}.crate\"}}");
    let site = Site::of(files([
        ("/index/config.json", config.as_bytes()),
        ("/index/gr/ee/greeting", entry.as_bytes()),
        ("/crates/greeting-1.0.0.crate", &fs::read(&archive).unwrap()),
    ]));
    let user = site.lab.path("user");
    fs::create_dir_all(user.join("src")).unwrap();
    fs::write(user.join("src/lib.rs"), "").unwrap();
    let manifest = r#"[package]
name = "user"
version = "0.0.0"
edition = "2021"
[dependencies]
greeting = { version = "1", registry = "lab" }
[workspace]
"#;
    fs::write(user.join("Cargo.toml"), manifest).unwrap();
    let manifest = user.join("Cargo.toml");
    let home = site.lab.path("cargo");
    let index = format!("sparse+http://{name}/index/");
    let fetch = [
        cargo,
        "fetch",
        "--manifest-path",
        manifest.to_str().unwrap(),
    ];
    let variables = [
        ("CARGO_HOME", home.to_str().unwrap()),
        ("CARGO_REGISTRIES_LAB_INDEX", &index),
        // Without a home, rustup does not know which one is meant.
        ("RUSTC", rustc.to_str().unwrap()),
    ];
    let fetched = site.run(&fetch, &variables);
    assert_eq!(fetched.code, Some(0), "{fetched:?}");
    assert!(
        fetched.stderr.contains("Downloaded greeting"),
        "{fetched:?}"
    );
}

#[test]
fn apt_reaches_a_repository_of_a_peer_as_another_user() {
    if !installed(&["apt-get"]) {
        return;
    }
    if !rustix::process::geteuid().is_root() {
        return skipped("apt-get changes its user for root only");
    }
    let site = Site::of(files([(
        "/apt/Packages",
        b"Package: greeting\nVersion: 1.0\nArchitecture: all\nMaintainer: a <a@example.com>\n\
          Filename: greeting.deb\nSize: 1\n\
          SHA256: 0000000000000000000000000000000000000000000000000000000000000000\n\
          Description: greets\n\n",
    )]));
    let root = tempfile::Builder::new()
        .permissions(fs::Permissions::from_mode(0o755))
        .tempdir()
        .unwrap();
    for below in ["lists/partial", "cache/archives/partial", "etc"] {
        fs::create_dir_all(root.path().join(below)).unwrap();
    }
    let sources = root.path().join("etc/sources.list");
    fs::write(
        &sources,
        format!("deb [trusted=yes] http://{}/apt ./\n", site.web.name),
    )
    .unwrap();
    let option =
        |name: &str, below: &str| format!("-o{name}={}", root.path().join(below).display());
    let options = [
        option("Dir::Etc::sourcelist", "etc/sources.list"),
        option("Dir::Etc::sourceparts", "none"),
        // The host's own settings may name a proxy.
        option("Dir::Etc::parts", "none"),
        option("Dir::Etc::main", "none"),
        option("Dir::State::lists", "lists"),
        option("Dir::Cache", "cache"),
        "-oAcquire::AllowInsecureRepositories=true".to_owned(),
        "-oAcquire::Retries=0".to_owned(),
    ];
    let mut update = vec!["apt-get"];
    update.extend(options.iter().map(String::as_str));
    update.push("update");
    site.run(&update, &[]).ok();
    let mut show = vec!["apt-cache"];
    show.extend(options.iter().map(String::as_str));
    show.extend(["show", "greeting"]);
    let shown = run(command(show[0]).args(&show[1..]), "").ok();
    assert!(shown.contains("Description: greets"), "{shown}");
}

#[test]
fn psql_and_redis_cli_reach_a_peer_by_a_port_of_their_own() {
    if !installed(&["psql", "redis-cli", "redis-server", "sh"]) {
        return;
    }
    let Some(postgres) = Postgres::start() else {
        return;
    };
    let lab = Lab::start();
    let (laptop, web) = lab.pair();
    web.serve(5432, postgres.address());
    let (_redis, address) = redis(&lab);
    web.serve(6379, address);
    let script = "psql -h ${OVERLAN_FORWARD_1%:*} -p ${OVERLAN_FORWARD_1##*:} \
-U overlan -d postgres -Atc 'select 6*7' &&
redis-cli -h ${OVERLAN_FORWARD_2%:*} -p ${OVERLAN_FORWARD_2##*:} ping";
    let forwards = ["-L", "0:web:5432", "-L", "0:web:6379", "sh", "-c", script];
    assert_eq!(run(&mut exec(&laptop, &forwards), "").ok(), "42\nPONG");
}

/// A Redis server, and where it listens.
fn redis(lab: &Lab) -> (Program, SocketAddr) {
    let address = {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap()
    };
    let directory = lab.path("redis");
    fs::create_dir(&directory).unwrap();
    let mut server: Command = command(find("redis-server").unwrap());
    server.args(["--bind", "127.0.0.1", "--save", "", "--port"]);
    server
        .arg(address.port().to_string())
        .arg("--dir")
        .arg(&directory);
    let server = Program::start("redis", &directory, &mut server, "");
    until("redis listens", LONGEST, || {
        let ready = server.output().contains("Ready to accept connections");
        ready.then_some(())
    });
    (server, address)
}
