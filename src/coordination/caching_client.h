// A Client that keeps what it has read: a get() or children() costs no request as long as the watch
// that was set with it has not fired. For a service that reads the same large part of the tree
// again and again while little of it changes.
//
// What it answers from memory is what a server would have answered when its last news arrived:
// after sync(), and after a write of this client, everything that came before is seen, as watches
// fire before the answer to a later call arrives. A write that failed, or a break of the
// connection, makes it forget everything. Stat::children is as of the reading.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "coordination/client.h"

namespace datom::coordination {

class CachingClient final : public Client {
 public:
  // `inner` outlives it, on the same loop. At most `limit` answers are kept: over it all are
  // forgotten.
  explicit CachingClient(Client& inner, std::size_t limit = 1 << 16);

  runtime::Task<std::string> create(std::string path, std::string data,
                                    CreateOptions options) override;
  runtime::Task<Version> set(std::string path, std::string data, Version expected) override;
  runtime::Task<void> remove(std::string path, Version expected) override;
  runtime::Task<std::vector<OperationResult>> multi(std::vector<Operation> operations) override;

  runtime::Task<std::optional<Node>> get(std::string path) override;
  runtime::Task<std::optional<std::vector<std::string>>> children(std::string path) override;
  // With a watch of the caller's own: asked of the server.
  runtime::Task<std::optional<Node>> get(std::string path, OnChange on_change,
                                         WatchHandle& watch) override;
  runtime::Task<std::optional<std::vector<std::string>>> children(std::string path,
                                                                  OnChange on_change,
                                                                  WatchHandle& watch) override;
  runtime::Task<void> sync() override;

  SessionState state() const override;
  std::int64_t session_id() const override;
  WatchHandle watch_session(std::function<void(SessionState)> on_state) override;

 private:
  template <typename Answer>
  struct Kept {
    Answer answer;
    std::shared_ptr<bool> changed;
    WatchHandle watch;
  };
  template <typename Answer>
  using Answers = std::map<std::string, Kept<Answer>>;
  using Children = std::optional<std::vector<std::string>>;

  template <typename Answer>
  const Answer* find(Answers<Answer>& answers, const std::string& path);
  template <typename Answer>
  void keep(Answers<Answer>& answers, const std::string& path, Kept<Answer> kept,
            std::uint64_t age);
  template <typename Result>
  runtime::Task<Result> write(runtime::Task<Result> call);
  void forget();

  Client& inner_;
  const std::size_t limit_;
  std::uint64_t age_ = 0;  // counts forget(): what was asked before is not kept
  Answers<std::optional<Node>> nodes_;
  Answers<Children> children_;
  WatchHandle session_watch_;
};

}  // namespace datom::coordination
