"""The log services of a scripted control plane: access logs over gRPC. Each message is noted with its entries; times are noted as being there."""
from google.protobuf import json_format

from .upstream_ads import Stream, message

# A point in time is a number of nanoseconds, the same in no two runs.
TIMES = ("start_time", "duration", "time_to_")


class Logs(Stream):
    """`StreamAccessLogs`; ``logs: {end: status}`` ends each stream after its first message."""

    def push(self, kind):
        pass

    def asked(self, data):
        said = message("envoy.service.accesslog.v3.StreamAccessLogsMessage").FromString(data)
        record = {"connection": self.place}
        if said.HasField("identifier"):
            node = said.identifier.node
            record["identifier"] = {"log": said.identifier.log_name, "id": node.id, "cluster": node.cluster,
                                    "agent": node.user_agent_name, "version": node.HasField("user_agent_build_version"),
                                    "extensions": len(node.extensions) > 0}
        for kind in ("http_logs", "tcp_logs"):
            if said.HasField(kind):
                record[kind] = [tree(entry) for entry in getattr(said, kind).log_entry]
        self.upstream.saw(record)
        if "end" in self.resources.logs:
            self.end(self.resources.logs["end"])


def tree(entry):
    return simple(json_format.MessageToDict(entry, preserving_proto_field_name=True))


def simple(value):
    """Addresses as text, so that their ports are told apart by name; what depends on time as there."""
    if not isinstance(value, dict):
        return value
    if "socket_address" in value:
        address = value["socket_address"]
        return f"{address['address']}:{address.get('port_value', 0)}"
    return {key: "there" if key.startswith(TIMES) else simple(item) for key, item in value.items()}
