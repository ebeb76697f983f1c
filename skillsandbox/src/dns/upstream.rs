//! Whom the name server asks: this host's own resolvers, and its file of hosts.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use hickory_resolver::{
    Hosts, NameServerPool, PoolContext, TlsConfig,
    config::{ConnectionConfig, NameServerConfig, ResolverOpts},
    net::{
        DnsError, NetError,
        runtime::TokioRuntimeProvider,
        xfer::{DnsHandle, FirstAnswer, RetryDnsHandle},
    },
    proto::{
        ProtoError,
        op::{DnsRequestOptions, Query, ResponseCode},
        rr::{Name, RData, Record, RecordType},
    },
    system_conf::read_system_conf,
};

/// How long one resolver may take, and how often it is asked.
const PATIENCE: Duration = Duration::from_secs(2);
const ATTEMPTS: usize = 2;
/// Questions that one resolver has at a time.
const QUESTIONS_MAX: usize = 1024;

/// Why nobody can be asked.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// This host names no resolver.
    #[error(
        "no resolver can be taken from /etc/resolv.conf: {0}: name one with --resolver ADDRESS, or no name can be looked up but those of /etc/hosts"
    )]
    NoResolver(NetError),
    /// It does not take what it is given.
    #[error("the resolver cannot be set up: {0}")]
    Setup(NetError),
}

type Servers = RetryDnsHandle<NameServerPool<TokioRuntimeProvider>>;

/// Whom to ask. Nothing is kept of the answers, and nobody is asked for what a name is an alias of:
/// whoever answers says that as well.
pub struct Upstream {
    servers: Option<Servers>,
    hosts: Hosts,
}

/// What was answered.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) code: ResponseCode,
    pub(super) records: Vec<Record>,
    /// What says that there is no such record.
    pub(super) authority: Option<Record>,
    /// Whether it comes from this host's own file: whoever writes that may name any address.
    pub(super) is_the_hosts: bool,
}

impl Upstream {
    /// The resolvers that are named, or those of this host. Without any, names of `/etc/hosts` are
    /// all that can be answered; the second value says why.
    pub fn new(named: &[SocketAddr]) -> Result<(Self, Option<UpstreamError>), UpstreamError> {
        let hosts = Hosts::from_system().unwrap_or_default();
        let configured = if named.is_empty() {
            read_system_conf().map(|(config, options)| (config.name_servers().to_vec(), options))
        } else {
            Ok((named.iter().map(server).collect(), ResolverOpts::default()))
        };
        let (servers, missing) = match configured {
            Ok((servers, options)) => {
                let tls = TlsConfig::new().map_err(UpstreamError::Setup)?;
                let context = Arc::new(PoolContext::new(limited(options), tls));
                let provider = TokioRuntimeProvider::default();
                let pool = NameServerPool::from_config(servers, context, provider);
                (Some(RetryDnsHandle::new(pool, ATTEMPTS)), None)
            }
            Err(error) => (None, Some(UpstreamError::NoResolver(error))),
        };
        Ok((Self { servers, hosts }, missing))
    }

    /// Asks for a name, which is in lower case and without the last dot.
    pub(super) async fn ask(&self, name: &str, kind: RecordType) -> Result<Reply, NetError> {
        let name = absolute(name)?;
        let of_hosts = |kind| {
            self.hosts
                .lookup_static_host(&Query::query(name.clone(), kind))
        };
        let found = of_hosts(kind);
        // A name of the file has what the file says, and nothing else.
        let other = if kind == RecordType::A {
            RecordType::AAAA
        } else {
            RecordType::A
        };
        if found.is_some() || of_hosts(other).is_some() {
            return Ok(Reply {
                code: ResponseCode::NoError,
                records: found.map_or_else(Vec::new, |found| found.answers().to_vec()),
                authority: None,
                is_the_hosts: true,
            });
        }
        let Some(servers) = &self.servers else {
            return Err(NetError::NoConnections);
        };
        let mut options = DnsRequestOptions::default();
        options.use_edns = true;
        options.recursion_desired = true;
        let query = Query::query(name, kind);
        match servers.lookup(query, options).first_answer().await {
            Ok(mut response) => Ok(Reply {
                code: response.metadata.response_code,
                records: std::mem::take(&mut response.answers),
                authority: None,
                is_the_hosts: false,
            }),
            Err(NetError::Dns(DnsError::NoRecordsFound(none))) => Ok(Reply {
                code: none.response_code,
                records: Vec::new(),
                authority: none.soa.map(|soa| {
                    let data = RData::SOA(soa.data.clone());
                    Record::from_rdata(soa.name.clone(), soa.ttl, data)
                }),
                is_the_hosts: false,
            }),
            Err(error) => Err(error),
        }
    }
}

/// The name, which nothing is added to.
pub(super) fn absolute(name: &str) -> Result<Name, ProtoError> {
    Name::from_ascii(format!("{name}."))
}

fn server(address: &SocketAddr) -> NameServerConfig {
    let at = |mut connection: ConnectionConfig| {
        connection.port = address.port();
        connection
    };
    let connections = vec![at(ConnectionConfig::udp()), at(ConnectionConfig::tcp())];
    NameServerConfig::new(address.ip(), true, connections)
}

fn limited(mut options: ResolverOpts) -> ResolverOpts {
    options.timeout = PATIENCE;
    options.attempts = ATTEMPTS;
    options.max_active_requests = QUESTIONS_MAX;
    options.try_tcp_on_error = true;
    options
}

impl std::fmt::Debug for Upstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upstream").finish_non_exhaustive()
    }
}
