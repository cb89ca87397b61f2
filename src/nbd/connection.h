// One client's connection, from the greeting to its end. It begins and ends on the home loop, that
// of the handshakes; while it is attached to an export it lives on the loop of that export.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "common/error.h"
#include "nbd/export.h"
#include "nbd/handshake.h"
#include "nbd/server.h"
#include "nbd/transmission.h"
#include "runtime/loop.h"
#include "runtime/network.h"
#include "runtime/task.h"
#include "telemetry/log.h"

namespace datom::nbd {

// What all connections of a server share; outlives them.
struct ServerContext {
  runtime::Loop& loop;  // home
  runtime::Network& network;
  Exports& exports;
  ServerOptions options;
  telemetry::Log log;
};

class Connection {
 public:
  Connection(ServerContext& context, std::unique_ptr<runtime::Stream> stream);

  // Begins on the home loop, and returns there when all has ended. Does not throw. Once.
  runtime::Task<void> run();
  // Ends the handshake at once, transmission once the requests under way are answered. On the home
  // loop, while run() is under way.
  void stop();

 private:
  struct Attachment;

  runtime::Task<void> converse();
  runtime::Task<std::optional<Choice>> haggle();
  // False: the client could not be attached and may go on haggling.
  runtime::Task<bool> attach(Choice choice);
  runtime::Task<void> visit_export(Choice choice);
  runtime::Task<void> open_and_serve(Choice choice, std::shared_ptr<Attachment> attachment);
  // Whether `volume` has been closed.
  runtime::Task<bool> transmit(Choice choice, Export& volume,
                               std::shared_ptr<Attachment> attachment);
  runtime::Task<void> move_to(ExportPlace place);
  void log_failure(const Error& error) const;

  ServerContext& context_;
  const std::string peer_;
  const runtime::Time deadline_;  // of the handshake

  // Touched by run() only, which is on one loop at a time.
  Handshake handshake_;
  runtime::Loop* here_;
  std::optional<Error> refusal_;  // why the export could not be opened

  // Touched by run() wherever it is, by stop() only while there is no attachment.
  std::unique_ptr<runtime::Stream> stream_;

  // Of the home loop.
  bool stopping_ = false;
  std::shared_ptr<Attachment> attachment_;  // set while the connection is, or moves, elsewhere
};

}  // namespace datom::nbd
