use std::{fs, os::unix::fs::symlink, time::Duration};

use tokio::time::timeout;

use super::*;

const SERVER: Ipv4Addr = Ipv4Addr::new(169, 254, 77, 53);
const HOSTS: &str = "nameserver 10.0.0.1\n";
const DOCKERS: &str = "nameserver 127.0.0.11\noptions ndots:0\n";
const HASH_OF_HOSTS: &str = "sha256:26b7ec5d3f6903fc698862c9796667f6e50676d464b50974c82fb03a047a47c0";

/// A directory as Docker keeps it.
struct Docker(tempfile::TempDir);

fn id(number: u8) -> Id {
    format!("{number:064x}").as_str().into()
}

impl Docker {
    fn new() -> (Self, Book) {
        let docker = Self(tempfile::tempdir().unwrap());
        let book = Book::new(docker.0.path().to_owned(), SERVER).unwrap();
        (docker, book)
    }

    fn path(&self, id: &Id, file: &str) -> PathBuf {
        self.0.path().join(&**id).join(file)
    }

    fn create(&self, id: &Id, mode: &str, network: &str) {
        fs::create_dir(self.path(id, "")).unwrap();
        self.facts(id, mode, network, "[]");
    }

    fn facts(&self, id: &Id, mode: &str, network: &str, dns: &str) {
        let host = format!(r#"{{"NetworkMode":"{mode}","Dns":{dns},"Runtime":"runc"}}"#);
        let config = format!(r#"{{"NetworkSettings":{{"Networks":{{"{network}":{{}}}}}}}}"#);
        for (name, text) in [("hostconfig.json", host), ("config.v2.json", config)] {
            let new = self.path(id, ".tmp");
            fs::write(&new, text).unwrap();
            fs::rename(new, self.path(id, name)).unwrap();
        }
    }

    /// What Docker does at a container's start.
    fn starts(&self, id: &Id) {
        self.writes(id, HOSTS);
        fs::write(self.path(id, "resolv.conf.hash"), HASH_OF_HOSTS).unwrap();
    }

    fn writes(&self, id: &Id, text: &str) {
        fs::write(self.path(id, "resolv.conf"), text).unwrap();
    }

    fn text(&self, id: &Id) -> String {
        fs::read_to_string(self.path(id, "resolv.conf")).unwrap()
    }

    fn leads_to_us(&self, id: &Id) -> bool {
        text::leads_to(&self.text(id), SERVER)
    }
}

impl Book {
    /// Takes in what happens until `done` says so.
    async fn until(&mut self, done: impl Fn() -> bool) {
        while !done() {
            let changes = timeout(Duration::from_secs(10), self.changes()).await;
            self.changed(changes.expect("nothing happens"), Instant::now());
        }
    }

    fn told(&mut self) -> Vec<(Id, Result<(), Arc<str>>)> {
        let told = self.news.drain(..).map(|news| match news {
            Observation::Resolver(id, says) => (id, says),
            other => panic!("{other:?}"),
        });
        told.collect()
    }

    fn why(&mut self) -> String {
        let told = self.told();
        let [(_, Err(why))] = &told[..] else { panic!("{told:?}") };
        why.to_string()
    }
}

#[tokio::test]
async fn it_is_written_after_docker_each_time() {
    let (docker, mut book) = Docker::new();
    let (plain, user) = (id(1), id(2));
    docker.create(&plain, "default", "bridge");
    docker.create(&user, "steppe-alice", "steppe-alice");
    docker.starts(&plain);
    for id in [&plain, &user] {
        book.wish(id, true, Instant::now());
    }
    assert!(docker.leads_to_us(&plain), "at once");
    assert_eq!(book.told(), [(plain.clone(), Ok(()))], "the other has none yet");
    docker.starts(&user);
    docker.writes(&user, DOCKERS);
    book.until(|| docker.leads_to_us(&user)).await;
    assert_eq!(book.told(), [(user.clone(), Ok(()))]);
    assert!(docker.text(&user).ends_with("\noptions ndots:0\n"));

    // A start, and a new network.
    docker.starts(&plain);
    book.until(|| docker.leads_to_us(&plain)).await;
    docker.writes(&user, &format!("search steppe.internal\n{DOCKERS}"));
    book.until(|| docker.leads_to_us(&user)).await;
    assert_eq!(book.told(), []);

    for (id, before) in [(&plain, HOSTS), (&user, DOCKERS)] {
        book.wish(id, false, Instant::now());
        assert_eq!(docker.text(id), before);
    }
    assert!(book.watched.is_empty() && book.files.is_empty() && book.wished.is_empty());
}

#[tokio::test]
async fn a_shared_file_is_led_as_long_as_one_of_them_wishes() {
    let (docker, mut book) = Docker::new();
    let (pause, one, two) = (id(1), id(2), id(3));
    docker.create(&pause, "none", "none");
    docker.starts(&pause);
    for task in [&one, &two] {
        docker.create(task, &format!("container:{pause}"), "");
        book.wish(task, true, Instant::now());
    }
    assert!(docker.leads_to_us(&pause));
    assert_eq!(book.told(), [(one.clone(), Ok(())), (two.clone(), Ok(()))]);
    book.wish(&one, false, Instant::now());
    book.wish(&pause, false, Instant::now());
    assert!(docker.leads_to_us(&pause));
    book.wish(&two, false, Instant::now());
    assert_eq!(docker.text(&pause), HOSTS);
}

#[tokio::test]
async fn a_later_control_finds_what_an_earlier_one_left() {
    let (docker, mut book) = Docker::new();
    let (stays, goes) = (id(1), id(2));
    for id in [&stays, &goes] {
        docker.create(id, "default", "bridge");
        docker.starts(id);
        book.wish(id, true, Instant::now());
    }
    let mut book = Book::new(docker.0.path().to_owned(), SERVER).unwrap();
    let written = docker.text(&stays);
    book.wish(&stays, true, Instant::now());
    assert_eq!(book.told(), [(stays.clone(), Ok(()))]);
    assert_eq!(docker.text(&stays), written);
    book.put_back_all_others();
    assert_eq!(docker.text(&goes), HOSTS);
    assert!(docker.leads_to_us(&stays));
}

#[tokio::test]
async fn why_it_is_left_is_told() {
    let (docker, mut book) = Docker::new();
    book.wish(&id(1), true, Instant::now());
    assert!(book.why().contains(&*id(1)), "its directory is not there");
    docker.create(&id(2), "default", "bridge");
    docker.facts(&id(2), "default", "bridge", r#"["10.9.9.9"]"#);
    docker.starts(&id(2));
    book.wish(&id(2), true, Instant::now());
    assert!(book.why().contains("10.9.9.9"));
    assert_eq!(docker.text(&id(2)), HOSTS);
    let mut book = Book::new("/no/such".into(), SERVER).unwrap();
    book.wish(&id(2), true, Instant::now());
    assert!(book.why().contains("/no/such is not there: mount"));
    book.wish(&"../../etc".into(), true, Instant::now());
    assert_eq!(book.told(), []);
}

#[tokio::test]
async fn a_container_that_comes_to_another_network_gets_its_names() {
    let (docker, mut book) = Docker::new();
    let id = id(1);
    docker.create(&id, "default", "bridge");
    docker.starts(&id);
    book.wish(&id, true, Instant::now());
    book.told();
    docker.writes(&id, &format!("search steppe.internal\n{DOCKERS}"));
    docker.facts(&id, "default", "app_default", "[]");
    book.until(|| docker.text(&id) == DOCKERS).await;
    // Docker tells of the network after it wrote the file.
    let told = book.told();
    assert!(told.last().unwrap().1.as_ref().unwrap_err().contains("app_default"), "{told:?}");
}

#[tokio::test]
async fn links_are_not_followed() {
    let (docker, mut book) = Docker::new();
    let id = id(1);
    docker.create(&id, "default", "bridge");
    let elsewhere = docker.0.path().join("elsewhere");
    fs::write(&elsewhere, HOSTS).unwrap();
    symlink(&elsewhere, docker.path(&id, "resolv.conf")).unwrap();
    book.wish(&id, true, Instant::now());
    assert!(book.why().contains("resolv.conf: "));
    assert_eq!(fs::read_to_string(&elsewhere).unwrap(), HOSTS);
}

#[tokio::test]
async fn a_quarrel_ends() {
    let (docker, mut book) = Docker::new();
    let id = id(1);
    docker.create(&id, "steppe-a", "steppe-a");
    docker.starts(&id);
    book.wish(&id, true, Instant::now());
    let start = Instant::now();
    let mut quarrels = 0;
    while book.due().is_none() {
        docker.writes(&id, DOCKERS);
        let changes = timeout(Duration::from_secs(10), book.changes()).await.unwrap();
        book.changed(changes, start);
        quarrels += 1;
        assert!(quarrels < 100, "it goes on and on");
    }
    let (last, due) = (book.told().pop().unwrap().1, book.due().unwrap());
    assert!(due > start && last.unwrap_err().contains("again and again"));
    assert!(!docker.leads_to_us(&id));
    book.look_at_due(due);
    assert!(docker.leads_to_us(&id));

    // A start is none.
    docker.starts(&id);
    docker.writes(&id, DOCKERS);
    book.look_at_all(due);
    assert!(docker.leads_to_us(&id));
}

#[tokio::test]
async fn who_looks_sees_no_change_in_it() {
    let (docker, mut book) = Docker::new();
    let (quiet, busy) = (id(1), id(2));
    for id in [&quiet, &busy] {
        docker.create(id, "default", "bridge");
        docker.starts(id);
        book.wish(id, true, Instant::now());
    }
    // Once for the wish, once for what was written; more if looking were a change.
    for _ in 0..10 {
        docker.writes(&busy, HOSTS);
        docker.starts(&busy);
        book.until(|| docker.leads_to_us(&busy)).await;
    }
    assert!(book.files[&quiet].looks.count() <= 2, "{:?}", book.files[&quiet].looks);
}

#[tokio::test]
async fn a_flood_is_not_listened_to() {
    let (docker, mut book) = Docker::new();
    let id = id(1);
    docker.create(&id, "default", "bridge");
    docker.starts(&id);
    book.wish(&id, true, Instant::now());
    let start = Instant::now();
    while book.due().is_none() {
        book.look(&id, start);
    }
    assert!(book.watched.is_empty());
    let due = book.due().unwrap();
    book.look_at_due(due);
    assert!(book.due().is_none() && book.watched.len() == 1);
}
