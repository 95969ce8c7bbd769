//! Nomad's own variables: <https://developer.hashicorp.com/nomad/commands#environment-variables>.

use std::{fs, path::PathBuf, sync::Arc};

use crate::sources::{
    Place, SourceError,
    http::{Client, Dialect, Settings, flag, variable},
};

/// Nomad's names. Its answers never say that something was held back.
pub(super) static NOMAD: Dialect = Dialect {
    title: "Nomad",
    address: "NOMAD_ADDR",
    write_address: "write http://host:port, https://host:port or unix:///path, such as http://127.0.0.1:4646",
    token: "NOMAD_TOKEN",
    token_file: "NOMAD_TOKEN_FILE",
    ca_cert: "NOMAD_CACERT",
    client_cert: "NOMAD_CLIENT_CERT",
    client_key: "NOMAD_CLIENT_KEY",
    server_name: "NOMAD_TLS_SERVER_NAME",
    token_header: "X-Nomad-Token",
    index_header: "X-Nomad-Index",
    leader_header: "X-Nomad-KnownLeader",
    filtered_header: "X-Nomad-Results-Filtered-By-ACLs",
};

/// How to ask Nomad; every file that it names has been read and found good.
#[derive(Clone)]
pub struct NomadConfig {
    pub(super) client: Arc<Client>,
    pub(super) region: Option<Arc<str>>,
    /// Where CNI's host-local plugin may keep the addresses of allocations in bridge mode.
    pub(super) cni_networks: Vec<PathBuf>,
    settings: Settings,
}

impl std::fmt::Debug for NomadConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        (&self.settings, &self.region, &self.cni_networks).fmt(f)
    }
}

impl NomadConfig {
    /// From the variables that Nomad's own tools take; `lookup` gives a variable's value. None when `NOMAD_ADDR` is not
    /// given: then Nomad is not a source. `NOMAD_NAMESPACE` is of no account: all namespaces are watched.
    ///
    /// # Errors
    /// The variable that makes no sense, or whose file can't be used, and what to write.
    pub fn from_env(
        lookup: impl Fn(&str) -> Option<String>,
        cni_networks: Vec<PathBuf>,
    ) -> Result<Option<Self>, SourceError> {
        let Some(settings) = read(&lookup)? else { return Ok(None) };
        let region = variable(&lookup, "NOMAD_REGION").map(Into::into);
        let client = Arc::new(Client::new(&settings)?);
        Ok(Some(Self { client, region, cni_networks, settings }))
    }

    /// Where the agent listens.
    #[must_use]
    pub fn place(&self) -> Place {
        self.settings.address.place()
    }
}

fn read(lookup: &impl Fn(&str) -> Option<String>) -> Result<Option<Settings>, SourceError> {
    if variable(lookup, NOMAD.address).is_none() {
        return Ok(None);
    }
    let skip = flag(lookup, "NOMAD_SKIP_VERIFY", false)?;
    let Some(mut settings) = Settings::from_env(lookup, &NOMAD, false, !skip)? else { return Ok(None) };
    // As in Nomad's tools, a file beats a directory.
    if let Some(dir) = variable(lookup, "NOMAD_CAPATH").filter(|_| settings.ca_certs.is_empty()) {
        let path = PathBuf::from(dir);
        let wrong =
            |problem: String| SourceError::File { variable: "NOMAD_CAPATH", path: path.clone(), problem };
        let entries = fs::read_dir(&path).map_err(|error| wrong(error.to_string()))?;
        let mut files: Vec<_> =
            entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file()).collect();
        if files.is_empty() {
            return Err(wrong("no certificate is in it".to_owned()));
        }
        files.sort();
        settings.ca_certs = files;
    }
    Ok(Some(settings))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(variables: &[(&str, &str)]) -> Result<Option<Settings>, SourceError> {
        read(&|name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn nomad_is_off_without_an_address() {
        assert_eq!(with(&[("NOMAD_TOKEN", "t")]).unwrap(), None);
        assert!(with(&[("NOMAD_ADDR", "unix:///secrets/api.sock")]).unwrap().is_some());
    }

    #[test]
    fn nonsense_names_its_variable() {
        let address = ("NOMAD_ADDR", "http://127.0.0.1:4646");
        for wrong in
            [("NOMAD_SKIP_VERIFY", "maybe"), ("NOMAD_CLIENT_KEY", "/k.pem"), ("NOMAD_CAPATH", "/nonexistent")]
        {
            let message = with(&[address, wrong]).unwrap_err().to_string();
            assert!(message.starts_with(wrong.0), "{message}");
        }
        let message = with(&[("NOMAD_ADDR", "localhost")]).unwrap_err().to_string();
        assert!(message.starts_with("NOMAD_ADDR") && message.contains("4646"), "{message}");
    }
}
