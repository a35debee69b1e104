//! The image that a compose test runs: the program of this machine's cargo in the Dockerfile's base, or the Dockerfile's
//! whole build.
//!
//! The first takes seconds, and needs a machine whose programs run in the image (Linux, with a C library that is not
//! newer); whether they do is tried, not guessed. Read next: `compose_test.rs`.
#![expect(clippy::print_stderr, reason = "a tool for people: its progress goes to standard error")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::cargo;
use crate::containers::{docker, run_in_sight, run_quietly};
use crate::stop::Stop;

/// Made for one test, and removed after it.
pub(crate) struct Image {
    pub(crate) name: String,
    ours: Vec<String>,
}

impl Image {
    /// One that is there already.
    pub(crate) fn given(name: &str) -> Result<Self> {
        docker(["image", "inspect", "--format", "{{.Id}}", name])?;
        Ok(Self { name: name.to_owned(), ours: Vec::new() })
    }

    /// The Dockerfile's whole build. It is kept, under the name that `docker-compose.yml` has for it: what it is made of
    /// is the next build's cache.
    pub(crate) fn full(arguments: &[String], stop: &Stop) -> Result<Self> {
        let name = "amends:local";
        eprintln!("building {name}: everything is compiled in a container, which takes its time");
        let mut build = build(name, arguments);
        build.arg(cargo::workspace_root());
        if !run_in_sight(build, stop)?.success() {
            bail!("the image cannot be built");
        }
        Ok(Self { name: name.to_owned(), ours: Vec::new() })
    }

    /// The Dockerfile's base with a program that was built outside; none if that does not run in it.
    pub(crate) fn prebuilt(
        tag: &str,
        program: &Path,
        folder: &Path,
        arguments: &[String],
        stop: &Stop,
    ) -> Result<Option<Self>> {
        let (base, name) = (format!("amends-base:{tag}"), format!("amends:{tag}"));
        let image = Self { name: name.clone(), ours: vec![name.clone(), base.clone()] };
        let log = folder.join("build.log");
        let mut command = build(&base, arguments);
        command.args(["--target", "base"]).arg(cargo::workspace_root());
        run_quietly(command, &log, stop)?;
        let context = stage(folder, program, &base)?;
        let mut command = build(&name, arguments);
        command.arg(&context);
        run_quietly(command, &log, stop)?;
        match docker(["run", "--rm", &name, "--version"]) {
            Ok(_) => Ok(Some(image)),
            Err(error) => {
                eprintln!("{error:#}\nthe program of this machine does not run in the image");
                Ok(None)
            }
        }
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        for name in &self.ours {
            // One that was never made is not there to be removed.
            let _ = docker(["image", "rm", "--no-prune", name]);
        }
    }
}

fn build(name: &str, arguments: &[String]) -> Command {
    let mut command = Command::new("docker");
    command.args(["build", "--tag", name]).args(arguments);
    command
}

/// A folder with the program and nothing else, for docker to read.
fn stage(folder: &Path, program: &Path, base: &str) -> Result<PathBuf> {
    let context = folder.join("image");
    fs::create_dir(&context).context("cannot make a folder for the image")?;
    fs::copy(program, context.join("amends"))
        .with_context(|| format!("cannot copy {}", program.display()))?;
    let text = format!("FROM {base}\nCOPY amends /usr/local/bin/amends\n");
    fs::write(context.join("Dockerfile"), text).context("cannot write a Dockerfile")?;
    Ok(context)
}
