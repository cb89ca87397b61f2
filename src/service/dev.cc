#include "service/dev.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <utility>

#include "common/error.h"
#include "config_service/init.h"
#include "config_service/node_registry.h"
#include "coordination/memory/memory.h"
#include "hardware/hardware.h"
#include "protocol/config.pb.h"
#include "protocol/dev.pb.h"
#include "protocol/methods.h"
#include "runtime/wait.h"
#include "service/boot.h"
#include "service/config_node.h"
#include "service/file_lock.h"
#include "service/loop_thread.h"
#include "service/on_loop.h"
#include "service/process.h"
#include "service/sessions.h"
#include "service/volume_service.h"

namespace datom::service {
namespace {

using protocol::ServiceType;
using runtime::Task;

namespace method = protocol::method;

constexpr std::string_view kConfigService = "cfg";
constexpr std::string_view kInterface = "127.0.0.1";
constexpr std::size_t kMaxTreeBytes = 256 << 20;

// Replaces the file durably; under the tree's lock, hence with plain system calls.
void save_tree(const std::string& path, const std::string& json) {
  const std::string fresh = path + ".new";
  const int file = open(fresh.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (file < 0) throw_errno(errno, "cannot write " + fresh);
  std::size_t done = 0;
  while (done < json.size()) {
    const ssize_t written = write(file, json.data() + done, json.size() - done);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) break;
    done += static_cast<std::size_t>(written);
  }
  const bool ok = done == json.size() && fdatasync(file) == 0;
  const int why = errno;
  close(file);
  if (!ok) throw_errno(why, "cannot write " + fresh);
  if (rename(fresh.c_str(), path.c_str()) != 0) throw_errno(errno, "cannot replace " + path);
  const std::string folder = std::filesystem::path(path).parent_path().string();
  const int directory = open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (directory < 0) throw_errno(errno, "cannot open " + folder);
  const bool synced = fsync(directory) == 0;
  close(directory);
  if (!synced) throw_errno(errno, "cannot sync " + folder);
}

// A volume server of the domain and the thread it has while it runs.
struct DevServer {
  std::string root;
  NodeFile node;
  std::unique_ptr<LoopThread> thread;
  std::unique_ptr<telemetry::Metrics> metrics;
  std::unique_ptr<Service> service;
};

class DevDomain final : public Service {
 public:
  DevDomain(LoopSeams loop, DevOptions options, telemetry::Log log);

  Task<void> start() override;
  void interrupt() override;
  Task<void> stop() override;

 private:
  NodeFile make_node(std::string name) const;
  Task<void> prepare_node(std::string root, NodeFile node);
  Task<void> keep_uuid(std::string root, NodeFile& node);
  Task<void> prepare();
  Task<void> load_tree();
  Task<void> make_tree(coordination::Client& client);
  Task<void> register_node(coordination::Client& client, NodeFile node);
  Task<void> start_config_service();
  Task<void> start_server(DevServer& server);
  Task<void> stop_server(DevServer& server);

  // Answers to `datom startservice` and `datom stopservice`.
  void register_handlers(rpc::Router& router);
  Task<rpc::Message> answer_start(rpc::Message request);
  Task<rpc::Message> answer_stop(rpc::Message request);
  DevServer& find(const std::string& service);

  Seams seams_for(LoopSeams loop, telemetry::Metrics& metrics, const std::string& service);
  std::string tree_path() const { return options_.root + "/coordination.json"; }

  const LoopSeams loop_;
  const DevOptions options_;
  const telemetry::Log log_;
  std::unique_ptr<FileLock> lock_;
  std::unique_ptr<coordination::MemoryTree> tree_;
  NodeFile config_node_;
  std::string config_root_;
  telemetry::Metrics config_metrics_;
  std::unique_ptr<Service> config_service_;
  std::map<std::string, DevServer> servers_;
  runtime::Mutex changing_;  // services are started and stopped one after another
  bool stopping_ = false;
};

DevDomain::DevDomain(LoopSeams loop, DevOptions options, telemetry::Log log)
    : loop_(loop), options_(std::move(options)), log_(std::move(log)), changing_(*loop.loop) {
  for (std::uint32_t i = 1; i <= options_.nodes; ++i) {
    const auto offset = static_cast<std::uint16_t>(i);
    NodeFile node = make_node(fmt::format("n{}", i));
    const std::string root = fmt::format("{}/node{}", options_.root, i);
    if (i == 1) {
      node.services.push_back(
          {std::string(kConfigService), ServiceType::config_service, options_.port, 0});
    }
    NodeService service{fmt::format("vs{}", i), ServiceType::volume_server,
                        static_cast<std::uint16_t>(options_.port + offset),
                        static_cast<std::uint16_t>(options_.nbd_port + offset - 1)};
    node.services.push_back(service);
    if (i == 1) {
      config_node_ = node;
      config_root_ = root;
    }
    DevServer& server = servers_[service.name];
    server.root = root;
    server.node = node;
  }
}

NodeFile DevDomain::make_node(std::string name) const {
  NodeFile node;
  node.node = std::move(name);
  const std::uint64_t high = loop_.random->next();
  node.uuid = Uuid::from_random(high, loop_.random->next());
  node.domain = options_.domain;
  node.coordination = CoordinationUrl::parse(fmt::format("config://127.0.0.1:{}", options_.port));
  node.nic_if = kInterface;
  return node;
}

Seams DevDomain::seams_for(LoopSeams loop, telemetry::Metrics& metrics,
                           const std::string& service) {
  Seams seams = real_seams({loop}, metrics, log_.with({"service", service}));
  seams.memory_bytes /= options_.nodes;
  seams.open_session = [tree = tree_.get()](const CoordinationUrl&, std::chrono::milliseconds) {
    return open_memory_session(*tree);
  };
  return seams;
}

// ---- what is there before the services

Task<void> DevDomain::start() {
  std::filesystem::create_directories(options_.root + "/run");
  lock_ = std::make_unique<FileLock>(options_.root + "/run/dev.lock",
                                     "the development domain in " + options_.root);
  co_await load_tree();
  co_await prepare();
  co_await start_config_service();
  for (auto& [name, server] : servers_) co_await start_server(server);
}

Task<void> DevDomain::load_tree() {
  tree_ = std::make_unique<coordination::MemoryTree>(
      [path = tree_path()](const std::string& json) { save_tree(path, json); });
  const bool there = co_await loop_.files->exists(tree_path());
  if (!there) co_return;
  const std::string json = co_await runtime::read_file(*loop_.files, tree_path(), kMaxTreeBytes);
  try {
    tree_->load(json);
  } catch (const Error& error) {
    throw Error(error.code(), "{}: {}", tree_path(), error.what());
  }
}

Task<void> DevDomain::prepare() {
  const std::shared_ptr<Session> session = open_memory_session(*tree_);
  const std::unique_ptr<coordination::Client> client = session->make_client(*loop_.loop);
  co_await make_tree(*client);
  NodeFile all = make_node("dev");
  for (auto& [name, server] : servers_) {
    co_await keep_uuid(server.root, server.node);
    co_await write_node_file(*loop_.files, server.root, server.node);
    co_await register_node(*client, server.node);
    all.services.insert(all.services.end(), server.node.services.begin(),
                        server.node.services.end());
  }
  co_await keep_uuid(options_.root, all);
  co_await write_node_file(*loop_.files, options_.root, all);
  co_await session->close(*loop_.loop);
}

// A root that is a node already stays that node.
Task<void> DevDomain::keep_uuid(std::string root, NodeFile& node) {
  const bool there = co_await loop_.files->exists(node_file_path(root));
  if (!there) co_return;
  const NodeFile old = co_await read_node_file(*loop_.files, root);
  if (old.node != node.node || old.domain != node.domain) {
    throw Error(Code::conflict, "{} is of node '{}' of domain '{}', expected node '{}' of '{}'",
                node_file_path(root), old.node, old.domain, node.node, node.domain);
  }
  node.uuid = old.uuid;
}

Task<void> DevDomain::make_tree(coordination::Client& client) {
  const auto instance = co_await client.get(std::string(protocol::paths::kConfigService));
  if (instance) co_return;
  protocol::InitRequest request;
  request.set_domain(options_.domain);
  co_await config_service::make_tree(client, *loop_.random, std::move(request));
}

Task<void> DevDomain::register_node(coordination::Client& client, NodeFile node) {
  const protocol::HardwareRecord hardware = hardware::discover();
  protocol::AddNodeRequest request;
  request.set_name(node.node);
  request.set_uuid(node.uuid.to_string());
  request.set_host(hardware::host_name());
  request.mutable_hardware()->set_processor(hardware.processor);
  request.mutable_hardware()->set_cores(hardware.cores);
  request.mutable_hardware()->set_threads(hardware.threads);
  request.mutable_hardware()->set_memory_bytes(hardware.memory_bytes);
  for (const NodeService& each : node.services) {
    auto* service = request.add_services();
    service->set_name(each.name);
    service->set_type(std::string(name(each.type)));
    service->set_port(each.port);
    service->set_nbd_port(each.nbd_port);
  }
  config_service::NodeRegistry registry(*loop_.loop, client, options_.domain);
  co_await registry.add(std::move(request));
}

// ---- services

Task<void> DevDomain::start_config_service() {
  ServiceOptions options;
  options.root = config_root_;
  options.service_name = kConfigService;
  config_service_ =
      make_config_node(seams_for(loop_, config_metrics_, options.service_name), options,
                       [this](rpc::Router& router) { register_handlers(router); });
  co_await config_service_->start();
}

Task<void> DevDomain::start_server(DevServer& server) {
  ServiceOptions options;
  options.root = server.root;
  options.service_name = server.node.services.back().name;
  std::string file_access;
  server.thread = std::make_unique<LoopThread>(&file_access);
  server.metrics = std::make_unique<telemetry::Metrics>();
  const LoopSeams there = server.thread->seams();
  server.service =
      make_volume_service(seams_for(there, *server.metrics, options.service_name), options);
  std::exception_ptr error;
  try {
    co_await on_loop(*loop_.loop, *there.loop, server.service->start());
  } catch (...) {
    error = std::current_exception();
  }
  if (!error) co_return;
  co_await stop_server(server);
  std::rethrow_exception(error);
}

Task<void> DevDomain::stop_server(DevServer& server) {
  if (!server.service) co_return;
  const LoopSeams there = server.thread->seams();
  co_await on_loop(*loop_.loop, *there.loop, server.service->stop());
  server.service.reset();
  server.metrics.reset();
  server.thread.reset();
}

void DevDomain::interrupt() {
  stopping_ = true;
  if (config_service_) config_service_->interrupt();
}

Task<void> DevDomain::stop() {
  stopping_ = true;
  {
    const runtime::Mutex::Holder holder = co_await changing_.lock();
    for (auto& [name, server] : servers_) co_await stop_server(server);
  }
  if (config_service_) co_await config_service_->stop();
  config_service_.reset();
  tree_.reset();
  lock_.reset();
}

// ---- requests

void DevDomain::register_handlers(rpc::Router& router) {
  router.on_call(method::kStartService, [this](rpc::Peer, rpc::Message request) {
    return answer_start(std::move(request));
  });
  router.on_call(method::kStopService, [this](rpc::Peer, rpc::Message request) {
    return answer_stop(std::move(request));
  });
}

Task<rpc::Message> DevDomain::answer_start(rpc::Message request) {
  protocol::StartServiceRequest wanted;
  if (!wanted.ParseFromString(request.header)) {
    throw Error(Code::corrupt, "the request is no StartServiceRequest");
  }
  DevServer& server = find(wanted.service());
  const runtime::Mutex::Holder holder = co_await changing_.lock();
  if (stopping_) throw Error(Code::unavailable, "the domain is stopping");
  if (!server.service) co_await start_server(server);
  co_return rpc::Message();
}

Task<rpc::Message> DevDomain::answer_stop(rpc::Message request) {
  protocol::StopServiceRequest wanted;
  if (!wanted.ParseFromString(request.header)) {
    throw Error(Code::corrupt, "the request is no StopServiceRequest");
  }
  DevServer& server = find(wanted.service());
  const runtime::Mutex::Holder holder = co_await changing_.lock();
  co_await stop_server(server);
  co_return rpc::Message();
}

DevServer& DevDomain::find(const std::string& service) {
  if (service == kConfigService) {
    throw Error(Code::unsupported, "the config service runs as long as 'datom dev' does");
  }
  const auto found = servers_.find(service);
  if (found != servers_.end()) return found->second;
  throw Error(Code::not_found, "there is no service '{}' in this domain; there are vs1 to vs{}",
              service, servers_.size());
}

void check(const DevOptions& options) {
  if (options.nodes < 1 || options.nodes > kMaxDevNodes) {
    throw Error(Code::invalid_argument, "--nodes is {}, expected 1 to {}", options.nodes,
                kMaxDevNodes);
  }
  if (options.port + options.nodes > 65535 || options.nbd_port + options.nodes > 65536) {
    throw Error(Code::invalid_argument, "{} nodes do not fit above ports {} and {}", options.nodes,
                options.port, options.nbd_port);
  }
}

}  // namespace

std::unique_ptr<Service> make_dev_domain(LoopSeams loop, DevOptions options, telemetry::Log log) {
  check(options);
  return std::make_unique<DevDomain>(loop, std::move(options), std::move(log));
}

void run_dev_process(DevOptions options, const std::function<void()>& up) {
  check(options);
  Signals signals;
  const telemetry::Log log = telemetry::Log::to_stderr(telemetry::Level::warn);
  std::string file_access;
  LoopThread thread(&file_access);
  const auto domain = make_dev_domain(thread.seams(), std::move(options), log);
  run_until_stopped(*domain, *thread.seams().loop, signals, log, up);
}

}  // namespace datom::service
