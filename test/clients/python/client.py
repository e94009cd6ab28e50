"""A Python program as a user writes it: python client.py tritonclient|grpcio HOST:PORT DEPLOYMENT

Inferences go through Triton's client or through stubs; all else through stubs that grpcio-tools made of the .proto files.
"""

import json
import sys

import grpc
import numpy as np
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from driftmesh.v1 import deployments_pb2, deployments_pb2_grpc, discovery_pb2, discovery_pb2_grpc
from driftmesh.v1 import feedback_pb2, feedback_pb2_grpc, registry_pb2, registry_pb2_grpc

# Triton's client brings the package `inference` of its own; a process can hold one description of it.
if sys.argv[1] == "tritonclient":
    import tritonclient.grpc as triton
    from tritonclient.grpc import service_pb2 as oip
    from tritonclient.grpc import service_pb2_grpc as oip_grpc
else:
    from inference import grpc_service_pb2 as oip
    from inference import grpc_service_pb2_grpc as oip_grpc

TIMEOUT = 20


def refusal(call):
    """Code of the refusal, and what google.rpc says of it."""
    try:
        call()
    except grpc.RpcError as error:
        return told(error)
    raise AssertionError("expected a refusal")


def told(error):
    status = rpc_status.from_call(error)
    heard = {"code": error.code().value[0]}
    for detail in status.details:
        info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
        if detail.Unpack(info):
            heard.update(reason=info.reason, domain=info.domain)
        if detail.Unpack(bad):
            heard["fields"] = [violation.field for violation in bad.field_violations]
    return heard


class WithTriton:
    """Inferences by tritonclient, arrays in and out."""

    def __init__(self, server):
        self.client = triton.InferenceServerClient(server)

    def facts(self):
        metadata = self.client.get_model_metadata("airports", as_json=True)
        tensor = lambda t: {**t, "shape": [int(size) for size in t["shape"]]}
        return {
            "live": self.client.is_server_live(),
            "ready": [self.client.is_model_ready(name) for name in ("flight-minutes", "airports")],
            "metadata": {side: [tensor(t) for t in metadata[side]] for side in ("inputs", "outputs")},
        }

    def infer(self, model, name, values, datatype, **options):
        array = np.array(values, dtype=np.float32 if datatype == "FP32" else object).reshape(len(values), 1)
        tensor = triton.InferInput(name, list(array.shape), datatype)
        tensor.set_data_from_numpy(array)
        return self.client.infer(model, [tensor], client_timeout=TIMEOUT, **options)

    def minutes(self, distances):
        return self.infer("flight-minutes", "distance", distances, "FP32").as_numpy("minutes").flatten().tolist()

    def airports(self, codes):
        answer = self.infer("airports", "code", codes, "BYTES")
        names = [name.decode() for name in answer.as_numpy("name").flatten()]
        return names, answer.as_numpy("hub").flatten().tolist()


class WithStubs:
    """Inferences by generated stubs: raw contents written and read by hand."""

    def __init__(self, server):
        self.oip = oip_grpc.GRPCInferenceServiceStub(grpc.insecure_channel(server))

    def facts(self):
        metadata = self.oip.ModelMetadata(oip.ModelMetadataRequest(name="airports"), timeout=TIMEOUT)
        tensor = lambda t: {"name": t.name, "datatype": t.datatype, "shape": list(t.shape)}
        ready = lambda name: self.oip.ModelReady(oip.ModelReadyRequest(name=name), timeout=TIMEOUT).ready
        return {
            "live": self.oip.ServerLive(oip.ServerLiveRequest(), timeout=TIMEOUT).live,
            "ready": [ready(name) for name in ("flight-minutes", "airports")],
            "metadata": {side: [tensor(t) for t in getattr(metadata, side)] for side in ("inputs", "outputs")},
        }

    def infer(self, model, name, datatype, rows, raw):
        tensor = oip.ModelInferRequest.InferInputTensor(name=name, datatype=datatype, shape=[rows, 1])
        request = oip.ModelInferRequest(model_name=model, inputs=[tensor], raw_input_contents=[raw])
        return self.oip.ModelInfer(request, timeout=TIMEOUT).raw_output_contents

    def minutes(self, distances):
        raw = np.array(distances, dtype="<f4").tobytes()
        (minutes,) = self.infer("flight-minutes", "distance", "FP32", len(distances), raw)
        return np.frombuffer(minutes, dtype="<f4").tolist()

    def airports(self, codes):
        raw = b"".join(len(code).to_bytes(4, "little") + code.encode() for code in codes)
        names, hubs = self.infer("airports", "code", "BYTES", len(codes), raw)
        texts, at = [], 0
        while at < len(names):
            size = int.from_bytes(names[at : at + 4], "little")
            texts.append(names[at + 4 : at + 4 + size].decode())
            at += 4 + size
        return texts, np.frombuffer(hubs, dtype="<f4").tolist()


def typed(model, name):
    tensor = oip.ModelInferRequest.InferInputTensor(name=name, datatype="FP32", shape=[2, 1])
    tensor.contents.fp32_contents.extend([450, 900])
    return oip.ModelInferRequest(model_name=model, id="my-id", inputs=[tensor])


def main(library, server, deployment):
    channel = grpc.insecure_channel(server)
    stub = oip_grpc.GRPCInferenceServiceStub(channel)
    health = health_pb2_grpc.HealthStub(channel)
    feedback = feedback_pb2_grpc.FeedbackStub(channel)
    discovery = discovery_pb2_grpc.DiscoveryStub(channel)
    deployments = deployments_pb2_grpc.DeploymentsStub(channel)
    registry = registry_pb2_grpc.RegistryStub(channel)
    inferences = WithTriton(server) if library == "tritonclient" else WithStubs(server)

    serving = health.Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT).status
    heard = {"health": health_pb2.HealthCheckResponse.ServingStatus.Name(serving), **inferences.facts()}
    heard["minutes"] = inferences.minutes([450, 900])
    heard["names"], heard["hubs"] = inferences.airports(["ZRH", "DUB", "XXX"])
    answer = stub.ModelInfer(typed("flight-minutes", "distance"), timeout=TIMEOUT)
    heard["typed"] = list(answer.outputs[0].contents.fp32_contents)
    heard["echoed"] = answer.id
    heard["inferenceId"] = answer.parameters["driftmesh_inference_id"].string_param
    requests = iter([typed("flight-minutes", "distance")])
    heard["streamed"] = refusal(lambda: list(stub.ModelStreamInfer(requests, timeout=TIMEOUT)))

    labels = [feedback_pb2.Label(inference_id=heard["inferenceId"], row=row, value=100) for row in range(2)]
    sent = feedback_pb2.SendLabelsRequest(labels=labels)
    heard["accepted"] = feedback.SendLabels(sent, timeout=TIMEOUT).accepted
    batches = iter([feedback_pb2.StreamLabelsRequest(number=7, labels=labels)])
    heard["acknowledged"] = [ack.acknowledged for ack in feedback.StreamLabels(batches, timeout=TIMEOUT)][0]

    wanted = discovery_pb2.FindModelsRequest()
    wanted.requirements.features.add(name="distance")
    wanted.requirements.uses.append("distance")
    heard["found"] = [match.model for match in discovery.FindModels(wanted, timeout=TIMEOUT).matches]
    watch = deployments.WatchDeployment(deployments_pb2.WatchDeploymentRequest(id=deployment))
    heard["watched"] = deployments_pb2.DeploymentState.Name(next(watch).state)
    watch.cancel()

    heard["unknownModel"] = refusal(lambda: stub.ModelInfer(typed("nobody", "distance"), timeout=TIMEOUT))
    heard["unknownDescription"] = refusal(
        lambda: registry.GetModel(registry_pb2.GetModelRequest(name="nobody"), timeout=TIMEOUT)
    )
    heard["wrongTensor"] = refusal(lambda: stub.ModelInfer(typed("flight-minutes", "miles"), timeout=TIMEOUT))
    foreign = feedback_pb2.SendLabelsRequest(labels=[feedback_pb2.Label(inference_id="inf_nonsense")])
    heard["foreignLabel"] = refusal(lambda: feedback.SendLabels(foreign, timeout=TIMEOUT))
    print(json.dumps(heard))


main(*sys.argv[1:])
