// What `GET /` says: a short plain-text page for whoever opens the port in a browser or with curl.

/** The page of a gateway at `address`. */
export function page(address: string, services: readonly string[]): string {
  return `Driftmesh: a mesh for machine-learning models. This port speaks gRPC, gRPC-Web and Connect (HTTP/1.1 and HTTP/2, no TLS).

Infer      inference.GRPCInferenceService/ModelInfer, model_name = a model or a deployment id
Tell       driftmesh.v1.Feedback/SendLabels, with the driftmesh_inference_id of the answer
Explore    grpcurl -plaintext ${address} list
Metrics    http://${address}/metrics, and /metrics/control-plane, /metrics/drift, /metrics/<address of a replica>
Health     grpc.health.v1.Health/Check

${services.map((service) => `  ${service}`).join("\n")}
`;
}
