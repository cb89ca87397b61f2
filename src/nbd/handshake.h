// The handshake of one connection: greeting and option haggling, until the client has chosen an
// export or leaves.
#pragma once

#include <optional>
#include <string>

#include "nbd/export.h"
#include "nbd/request.h"
#include "nbd/wire.h"
#include "runtime/network.h"
#include "runtime/task.h"

namespace datom::nbd {

// What a client wants to attach to.
struct Choice {
  Option option{};      // go or export_name
  InfoRequest request;  // the export, and what it wants to be told about it
};

// Never reads beyond the message it is at, so that the stream may move between any two calls.
// All calls throw Error{corrupt} when the client breaks the protocol and Error{closed} when it
// vanishes; the connection is to be closed then.
class Handshake {
 public:
  // `exports` must outlive it.
  explicit Handshake(Exports& exports) : exports_(exports) {}

  // The first exchange. Before anything else.
  runtime::Task<void> greet(runtime::Stream& stream);

  // Answers options until the client chooses an export that exists, which has to be answered by
  // accept() or refuse(); nullopt when it leaves.
  runtime::Task<std::optional<Choice>> haggle(runtime::Stream& stream);

  // Tells the client that transmission begins; what it has negotiated.
  runtime::Task<Session> accept(runtime::Stream& stream, Choice choice, ExportInfo info);

  // Tells the client why it cannot be. False: the option knows no errors, the connection is to be
  // closed.
  runtime::Task<bool> refuse(runtime::Stream& stream, Choice choice, Error why);

 private:
  struct Answer;

  runtime::Task<Answer> answer(Option option, Buffer data);
  runtime::Task<Answer> list(ByteView data);
  runtime::Task<Answer> info(Option option, ByteView data);
  runtime::Task<Answer> export_name(ByteView data);
  runtime::Task<Answer> meta_context(Option option, ByteView data);
  runtime::Task<ExportInfo> find(std::string name);

  Exports& exports_;
  bool zeroes_ = true;
  bool structured_ = false;
  std::optional<std::string> context_export_;  // for which base:allocation is selected
};

}  // namespace datom::nbd
