import com.google.gson.Gson;
import com.google.protobuf.ByteString;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import driftmesh.v1.DeploymentsGrpc;
import driftmesh.v1.DeploymentsOuterClass.WatchDeploymentRequest;
import driftmesh.v1.DiscoveryGrpc;
import driftmesh.v1.DiscoveryOuterClass.FindModelsRequest;
import driftmesh.v1.DiscoveryOuterClass.Match;
import driftmesh.v1.DiscoveryOuterClass.Requirements;
import driftmesh.v1.FeedbackGrpc;
import driftmesh.v1.FeedbackOuterClass.Label;
import driftmesh.v1.FeedbackOuterClass.SendLabelsRequest;
import driftmesh.v1.FeedbackOuterClass.StreamLabelsRequest;
import driftmesh.v1.FeedbackOuterClass.StreamLabelsResponse;
import driftmesh.v1.ModelOuterClass.Feature;
import driftmesh.v1.RegistryGrpc;
import driftmesh.v1.RegistryOuterClass.GetModelRequest;
import inference.GRPCInferenceServiceGrpc;
import inference.GrpcService.InferTensorContents;
import inference.GrpcService.ModelInferRequest;
import inference.GrpcService.ModelInferRequest.InferInputTensor;
import inference.GrpcService.ModelMetadataRequest;
import inference.GrpcService.ModelMetadataResponse.TensorMetadata;
import inference.GrpcService.ModelReadyRequest;
import inference.GrpcService.ServerLiveRequest;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.Status;
import io.grpc.health.v1.HealthCheckRequest;
import io.grpc.health.v1.HealthGrpc;
import io.grpc.protobuf.StatusProto;
import io.grpc.stub.StreamObserver;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;

/** A Java program as a user writes it: grpc-java, generated stubs, none of our code. Client HOST:PORT DEPLOYMENT */
public final class Client {
  private static final long TIMEOUT = 20;
  private final ManagedChannel channel;
  private final Map<String, Object> heard = new LinkedHashMap<>();

  private Client(ManagedChannel channel) {
    this.channel = channel;
  }

  public static void main(String[] arguments) throws Exception {
    ManagedChannel channel = ManagedChannelBuilder.forTarget(arguments[0]).usePlaintext().build();
    Client client = new Client(channel);
    client.inferences();
    client.labels();
    client.control(arguments[1]);
    channel.shutdownNow();
    System.out.println(new Gson().toJson(client.heard));
  }

  private void inferences() throws Exception {
    var health = HealthGrpc.newBlockingStub(channel).withDeadlineAfter(TIMEOUT, TimeUnit.SECONDS);
    heard.put("health", health.check(HealthCheckRequest.getDefaultInstance()).getStatus().name());
    var oip = GRPCInferenceServiceGrpc.newBlockingStub(channel).withDeadlineAfter(TIMEOUT, TimeUnit.SECONDS);
    heard.put("live", oip.serverLive(ServerLiveRequest.getDefaultInstance()).getLive());
    var ready = new ArrayList<Boolean>();
    for (String name : List.of("flight-minutes", "airports"))
      ready.add(oip.modelReady(ModelReadyRequest.newBuilder().setName(name).build()).getReady());
    heard.put("ready", ready);
    var metadata = oip.modelMetadata(ModelMetadataRequest.newBuilder().setName("airports").build());
    var sides = Map.of("inputs", tensors(metadata.getInputsList()), "outputs", tensors(metadata.getOutputsList()));
    heard.put("metadata", sides);

    var minutes = oip.modelInfer(rawly("flight-minutes", "distance", "FP32", 2, littleEndian(450, 900)));
    heard.put("minutes", floats(minutes.getRawOutputContents(0)));
    var answer = oip.modelInfer(typed("flight-minutes", "distance"));
    heard.put("typed", answer.getOutputs(0).getContents().getFp32ContentsList());
    heard.put("echoed", answer.getId());
    heard.put("inferenceId", answer.getParametersOrThrow("driftmesh_inference_id").getStringParam());
    var named = oip.modelInfer(rawly("airports", "code", "BYTES", 3, withLengths("ZRH", "DUB", "XXX")));
    heard.put("names", texts(named.getRawOutputContents(0)));
    heard.put("hubs", floats(named.getRawOutputContents(1)));

    var request = typed("flight-minutes", "distance");
    Throwable error = exchange(GRPCInferenceServiceGrpc.newStub(channel)::modelStreamInfer, request).error();
    heard.put("streamed", told(error));
    heard.put("unknownModel", refusal(() -> oip.modelInfer(typed("nobody", "distance"))));
    heard.put("wrongTensor", refusal(() -> oip.modelInfer(typed("flight-minutes", "miles"))));
  }

  private void labels() throws Exception {
    var feedback = FeedbackGrpc.newBlockingStub(channel).withDeadlineAfter(TIMEOUT, TimeUnit.SECONDS);
    var labels = new ArrayList<Label>();
    for (int row = 0; row < 2; row++)
      labels.add(label((String) heard.get("inferenceId")).setRow(row).setValue(100).build());
    var sent = SendLabelsRequest.newBuilder().addAllLabels(labels).build();
    heard.put("accepted", feedback.sendLabels(sent).getAccepted());
    var batch = StreamLabelsRequest.newBuilder().setNumber(7).addAllLabels(labels).build();
    Exchanged<StreamLabelsResponse> acks = exchange(FeedbackGrpc.newStub(channel)::streamLabels, batch);
    heard.put("acknowledged", acks.replies().get(0).getAcknowledged());
    var foreign = SendLabelsRequest.newBuilder().addLabels(label("inf_nonsense")).build();
    heard.put("foreignLabel", refusal(() -> feedback.sendLabels(foreign)));
  }

  private void control(String deployment) {
    var distance = Feature.newBuilder().setName("distance");
    var wanted = Requirements.newBuilder().addFeatures(distance).addUses("distance");
    var discovery = DiscoveryGrpc.newBlockingStub(channel).withDeadlineAfter(TIMEOUT, TimeUnit.SECONDS);
    var found = discovery.findModels(FindModelsRequest.newBuilder().setRequirements(wanted).build());
    heard.put("found", found.getMatchesList().stream().map(Match::getModel).toList());
    var deployments = DeploymentsGrpc.newBlockingStub(channel);
    var watch = deployments.watchDeployment(WatchDeploymentRequest.newBuilder().setId(deployment).build());
    heard.put("watched", watch.next().getState().name());
    var registry = RegistryGrpc.newBlockingStub(channel).withDeadlineAfter(TIMEOUT, TimeUnit.SECONDS);
    var nobody = GetModelRequest.newBuilder().setName("nobody").build();
    heard.put("unknownDescription", refusal(() -> registry.getModel(nobody)));
  }

  private record Exchanged<R>(List<R> replies, Throwable error) {}

  private interface Streaming<Q, R> {
    StreamObserver<Q> open(StreamObserver<R> replies);
  }

  /** Sends one message, half-closes, and gathers the answers and the error, if there is one. */
  private static <Q, R> Exchanged<R> exchange(Streaming<Q, R> method, Q request) throws Exception {
    var replies = new ArrayList<R>();
    var ended = new CompletableFuture<Throwable>();
    StreamObserver<Q> requests =
        method.open(
            new StreamObserver<>() {
              @Override
              public void onNext(R reply) {
                replies.add(reply);
              }

              @Override
              public void onError(Throwable error) {
                ended.complete(error);
              }

              @Override
              public void onCompleted() {
                ended.complete(null);
              }
            });
    requests.onNext(request);
    requests.onCompleted();
    Throwable error = ended.get(TIMEOUT, TimeUnit.SECONDS);
    return new Exchanged<>(replies, error);
  }

  private static Map<String, Object> refusal(Runnable call) {
    try {
      call.run();
    } catch (RuntimeException error) {
      return told(error);
    }
    throw new AssertionError("expected a refusal");
  }

  /** Code, and what google.rpc says of it. */
  private static Map<String, Object> told(Throwable error) {
    var told = new LinkedHashMap<String, Object>();
    told.put("code", Status.fromThrowable(error).getCode().value());
    try {
      for (var detail : StatusProto.fromThrowable(error).getDetailsList()) {
        if (detail.is(ErrorInfo.class)) {
          told.put("reason", detail.unpack(ErrorInfo.class).getReason());
          told.put("domain", detail.unpack(ErrorInfo.class).getDomain());
        } else if (detail.is(BadRequest.class)) {
          var violations = detail.unpack(BadRequest.class).getFieldViolationsList();
          told.put("fields", violations.stream().map(BadRequest.FieldViolation::getField).toList());
        }
      }
    } catch (InvalidProtocolBufferException invalid) {
      throw new AssertionError(invalid);
    }
    return told;
  }

  private static Label.Builder label(String id) {
    return Label.newBuilder().setInferenceId(id);
  }

  private static List<Map<String, Object>> tensors(List<TensorMetadata> all) {
    return all.stream()
        .map(t -> Map.<String, Object>of("name", t.getName(), "datatype", t.getDatatype(), "shape", t.getShapeList()))
        .toList();
  }

  private static ModelInferRequest rawly(String model, String input, String datatype, long rows, ByteString raw) {
    var tensor = InferInputTensor.newBuilder().setName(input).setDatatype(datatype).addShape(rows).addShape(1);
    return ModelInferRequest.newBuilder().setModelName(model).addInputs(tensor).addRawInputContents(raw).build();
  }

  private static ModelInferRequest typed(String model, String input) {
    var contents = InferTensorContents.newBuilder().addFp32Contents(450).addFp32Contents(900);
    var tensor = InferInputTensor.newBuilder().setName(input).setDatatype("FP32").addShape(2).addShape(1);
    var request = ModelInferRequest.newBuilder().setModelName(model).setId("my-id");
    return request.addInputs(tensor.setContents(contents)).build();
  }

  private static ByteString littleEndian(float... values) {
    var raw = ByteBuffer.allocate(4 * values.length).order(ByteOrder.LITTLE_ENDIAN);
    for (float value : values) raw.putFloat(value);
    return ByteString.copyFrom(raw.flip());
  }

  private static List<Float> floats(ByteString raw) {
    var values = new ArrayList<Float>();
    var bytes = raw.asReadOnlyByteBuffer().order(ByteOrder.LITTLE_ENDIAN);
    while (bytes.hasRemaining()) values.add(bytes.getFloat());
    return values;
  }

  /** BYTES in raw contents: each element after its length, 32 bits, little-endian. */
  private static ByteString withLengths(String... texts) {
    var raw = ByteBuffer.allocate(1024).order(ByteOrder.LITTLE_ENDIAN);
    for (String text : texts) {
      byte[] bytes = text.getBytes(StandardCharsets.UTF_8);
      raw.putInt(bytes.length).put(bytes);
    }
    return ByteString.copyFrom(raw.flip());
  }

  private static List<String> texts(ByteString raw) {
    var all = new ArrayList<String>();
    var bytes = raw.asReadOnlyByteBuffer().order(ByteOrder.LITTLE_ENDIAN);
    while (bytes.hasRemaining()) {
      byte[] text = new byte[bytes.getInt()];
      bytes.get(text);
      all.add(new String(text, StandardCharsets.UTF_8));
    }
    return all;
  }
}
