//! Jobs as a user writes them, with one group and one task of the job's own name.

/// A job. Everything that is left empty is left out.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Job<'a> {
    /// Its name, and its group's and task's.
    pub(super) name: &'a str,
    /// The host that it must run on.
    pub(super) host: &'a str,
    /// More of the group.
    pub(super) group: &'a str,
    /// More of the task.
    pub(super) task: &'a str,
    /// More of the docker driver's config.
    pub(super) config: &'a str,
    /// The probe's words.
    pub(super) probe: &'a [&'a str],
}

impl Job<'_> {
    /// It in HCL.
    pub(super) fn hcl(&self) -> String {
        let Self { name, host, group, task, config, probe } = self;
        let args = probe.iter().map(|word| format!("{word:?}")).collect::<Vec<_>>().join(", ");
        format!(
            r#"job "{name}" {{
  datacenters = ["dc1"]
  constraint {{
    attribute = "${{node.unique.name}}"
    value     = "{host}"
  }}
  group "{name}" {{
    {group}
    restart {{
      attempts = 10
      delay    = "1s"
    }}
    task "{name}" {{
      driver = "docker"
      config {{
        image   = "steppe-probe:1"
        command = "probe"
        args    = [{args}]
        {config}
      }}
      {task}
      kill_timeout = "1s"
      resources {{
        cpu    = 50
        memory = 32
      }}
    }}
  }}
}}
"#
        )
    }
}

/// A server of `web` on a published port, registered with `provider` (empty: Consul, also for Nomads that know no other).
pub(super) fn web_service(provider: &str, more: &str) -> String {
    let provider = if provider.is_empty() { String::new() } else { format!("provider = \"{provider}\"") };
    format!("service {{\n  name = \"web\"\n  port = \"http\"\n  {provider}\n  {more}\n}}")
}

/// A group's network with a port that leads to port 80 of the task.
pub(super) const PORT: &str = "network {\n  port \"http\" {\n    to = 80\n  }\n}";
