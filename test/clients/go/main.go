// Program clients is a Go client as a user writes it: stubs that buf generated, grpc-go, none of our code.
//
//	clients HOST:PORT DEPLOYMENT
package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"os"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	mesh "driftmesh.test/clients/gen/driftmesh/v1"
	oip "driftmesh.test/clients/gen/inference"
)

type object = map[string]any

func must[T any](value T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return value
}

// refusal is the code, and what google.rpc says of it.
func refusal(err error) object {
	said, ok := status.FromError(err)
	if err == nil || !ok {
		log.Fatalf("expected a refusal, heard %v", err)
	}
	heard := object{"code": uint32(said.Code())}
	for _, detail := range said.Details() {
		switch told := detail.(type) {
		case *errdetails.ErrorInfo:
			heard["reason"], heard["domain"] = told.Reason, told.Domain
		case *errdetails.BadRequest:
			var fields []string
			for _, violation := range told.FieldViolations {
				fields = append(fields, violation.Field)
			}
			heard["fields"] = fields
		}
	}
	return heard
}

func floats(raw []byte) []float32 {
	values := make([]float32, len(raw)/4)
	must(0, binary.Read(bytes.NewReader(raw), binary.LittleEndian, values))
	return values
}

func littleEndian(values ...float32) []byte {
	var raw bytes.Buffer
	must(0, binary.Write(&raw, binary.LittleEndian, values))
	return raw.Bytes()
}

// withLengths is BYTES in raw contents: each element after its length, 32 bits, little-endian.
func withLengths(texts ...string) (raw []byte) {
	for _, text := range texts {
		raw = append(binary.LittleEndian.AppendUint32(raw, uint32(len(text))), text...)
	}
	return raw
}

func texts(raw []byte) (all []string) {
	for len(raw) > 0 {
		size := binary.LittleEndian.Uint32(raw)
		all, raw = append(all, string(raw[4:4+size])), raw[4+size:]
	}
	return all
}

func rawly(model, input, datatype string, rows int64, raw []byte) *oip.ModelInferRequest {
	tensor := &oip.ModelInferRequest_InferInputTensor{Name: input, Datatype: datatype, Shape: []int64{rows, 1}}
	return &oip.ModelInferRequest{
		ModelName:        model,
		Inputs:           []*oip.ModelInferRequest_InferInputTensor{tensor},
		RawInputContents: [][]byte{raw},
	}
}

func typed(model, input string) *oip.ModelInferRequest {
	tensor := &oip.ModelInferRequest_InferInputTensor{
		Name: input, Datatype: "FP32", Shape: []int64{2, 1},
		Contents: &oip.InferTensorContents{Fp32Contents: []float32{450, 900}},
	}
	return &oip.ModelInferRequest{
		ModelName: model, Id: "my-id", Inputs: []*oip.ModelInferRequest_InferInputTensor{tensor},
	}
}

func tensors(all []*oip.ModelMetadataResponse_TensorMetadata) (heard []object) {
	for _, t := range all {
		heard = append(heard, object{"name": t.Name, "datatype": t.Datatype, "shape": t.Shape})
	}
	return heard
}

func main() {
	log.SetFlags(0)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	channel := must(grpc.NewClient(os.Args[1], grpc.WithTransportCredentials(insecure.NewCredentials())))
	defer channel.Close()
	heard := object{}
	inferences(ctx, channel, heard)
	labels(ctx, channel, heard)
	control(ctx, channel, heard, os.Args[2])
	fmt.Println(string(must(json.Marshal(heard))))
}

func inferences(ctx context.Context, channel *grpc.ClientConn, heard object) {
	health := grpc_health_v1.NewHealthClient(channel)
	heard["health"] = must(health.Check(ctx, &grpc_health_v1.HealthCheckRequest{})).Status.String()
	client := oip.NewGRPCInferenceServiceClient(channel)
	heard["live"] = must(client.ServerLive(ctx, &oip.ServerLiveRequest{})).Live
	var ready []bool
	for _, name := range []string{"flight-minutes", "airports"} {
		ready = append(ready, must(client.ModelReady(ctx, &oip.ModelReadyRequest{Name: name})).Ready)
	}
	heard["ready"] = ready
	metadata := must(client.ModelMetadata(ctx, &oip.ModelMetadataRequest{Name: "airports"}))
	heard["metadata"] = object{"inputs": tensors(metadata.Inputs), "outputs": tensors(metadata.Outputs)}

	minutes := must(client.ModelInfer(ctx, rawly("flight-minutes", "distance", "FP32", 2, littleEndian(450, 900))))
	heard["minutes"] = floats(minutes.RawOutputContents[0])
	answer := must(client.ModelInfer(ctx, typed("flight-minutes", "distance")))
	heard["typed"] = answer.Outputs[0].Contents.Fp32Contents
	heard["echoed"] = answer.Id
	heard["inferenceId"] = answer.Parameters["driftmesh_inference_id"].GetStringParam()
	named := must(client.ModelInfer(ctx, rawly("airports", "code", "BYTES", 3, withLengths("ZRH", "DUB", "XXX"))))
	heard["names"], heard["hubs"] = texts(named.RawOutputContents[0]), floats(named.RawOutputContents[1])

	stream := must(client.ModelStreamInfer(ctx))
	if err := stream.Send(typed("flight-minutes", "distance")); err != nil && err != io.EOF {
		log.Fatal(err)
	}
	_, err := stream.Recv()
	heard["streamed"] = refusal(err)
	_, err = client.ModelInfer(ctx, typed("nobody", "distance"))
	heard["unknownModel"] = refusal(err)
	_, err = client.ModelInfer(ctx, typed("flight-minutes", "miles"))
	heard["wrongTensor"] = refusal(err)
}

func labels(ctx context.Context, channel *grpc.ClientConn, heard object) {
	client := mesh.NewFeedbackClient(channel)
	var truth []*mesh.Label
	for row := range uint32(2) {
		truth = append(truth, &mesh.Label{InferenceId: heard["inferenceId"].(string), Row: row, Value: 100})
	}
	heard["accepted"] = must(client.SendLabels(ctx, &mesh.SendLabelsRequest{Labels: truth})).Accepted
	stream := must(client.StreamLabels(ctx))
	must(0, stream.Send(&mesh.StreamLabelsRequest{Number: 7, Labels: truth}))
	must(0, stream.CloseSend())
	heard["acknowledged"] = must(stream.Recv()).Acknowledged
	if _, err := stream.Recv(); err != io.EOF {
		log.Fatalf("the stream of acks should end, heard %v", err)
	}
	foreign := []*mesh.Label{{InferenceId: "inf_nonsense"}}
	_, err := client.SendLabels(ctx, &mesh.SendLabelsRequest{Labels: foreign})
	heard["foreignLabel"] = refusal(err)
}

func control(ctx context.Context, channel *grpc.ClientConn, heard object, deployment string) {
	wanted := &mesh.Requirements{Features: []*mesh.Feature{{Name: "distance"}}, Uses: []string{"distance"}}
	found := must(mesh.NewDiscoveryClient(channel).FindModels(ctx, &mesh.FindModelsRequest{Requirements: wanted}))
	var models []string
	for _, match := range found.Matches {
		models = append(models, match.Model)
	}
	heard["found"] = models
	watching, stop := context.WithCancel(ctx)
	defer stop()
	request := &mesh.WatchDeploymentRequest{Id: deployment}
	watch := must(mesh.NewDeploymentsClient(channel).WatchDeployment(watching, request))
	heard["watched"] = must(watch.Recv()).State.String()
	_, err := mesh.NewRegistryClient(channel).GetModel(ctx, &mesh.GetModelRequest{Name: "nobody"})
	heard["unknownDescription"] = refusal(err)
}
