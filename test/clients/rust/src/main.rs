//! A Rust program as a user writes it: tonic, stubs made by tonic-prost-build, none of our code.
//! clients HOST:PORT DEPLOYMENT
use serde_json::{Map, Value, json};
use tokio_stream::once;
use tonic::{Code, Request, Status, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use tonic_types::StatusExt;

mod mesh {
    tonic::include_proto!("driftmesh.v1");
}
mod oip {
    tonic::include_proto!("inference");
}
use mesh::{
    deployments_client::DeploymentsClient, discovery_client::DiscoveryClient, feedback_client::FeedbackClient,
    registry_client::RegistryClient,
};
use oip::{
    InferTensorContents, ModelInferRequest, infer_parameter::ParameterChoice, model_infer_request::InferInputTensor,
    model_metadata_response::TensorMetadata,
};

type Oip = oip::grpc_inference_service_client::GrpcInferenceServiceClient<Channel>;
type Failure = Box<dyn std::error::Error>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().collect();
    let channel = Channel::from_shared(format!("http://{}", arguments[1]))?.connect().await?;
    let mut heard = Map::new();
    let id = inferences(channel.clone(), &mut heard).await?;
    labels(channel.clone(), &mut heard, &id).await?;
    control(channel, &mut heard, &arguments[2]).await?;
    println!("{}", Value::Object(heard));
    Ok(())
}

async fn inferences(channel: Channel, heard: &mut Map<String, Value>) -> Result<String, Failure> {
    let mut tell = |name: &str, value: Value| heard.insert(name.into(), value);
    let serving = HealthClient::new(channel.clone()).check(HealthCheckRequest::default()).await?.into_inner();
    tell("health", json!(ServingStatus::try_from(serving.status)?.as_str_name()));
    let mut client = Oip::new(channel);
    tell("live", json!(client.server_live(oip::ServerLiveRequest {}).await?.into_inner().live));
    let mut ready = Vec::new();
    for name in ["flight-minutes", "airports"] {
        let request = oip::ModelReadyRequest { name: name.into(), ..Default::default() };
        ready.push(client.model_ready(request).await?.into_inner().ready);
    }
    tell("ready", json!(ready));
    let request = oip::ModelMetadataRequest { name: "airports".into(), ..Default::default() };
    let metadata = client.model_metadata(request).await?.into_inner();
    tell("metadata", json!({"inputs": tensors(&metadata.inputs), "outputs": tensors(&metadata.outputs)}));

    let request = rawly("flight-minutes", "distance", "FP32", 2, little_endian(&[450.0, 900.0]));
    let minutes = client.model_infer(request).await?.into_inner();
    tell("minutes", json!(floats(&minutes.raw_output_contents[0])));
    let answer = client.model_infer(typed("flight-minutes", "distance")).await?.into_inner();
    let contents = answer.outputs[0].contents.as_ref().ok_or("no contents")?;
    tell("typed", json!(contents.fp32_contents));
    tell("echoed", json!(answer.id));
    let id = match answer.parameters["driftmesh_inference_id"].parameter_choice.clone() {
        Some(ParameterChoice::StringParam(id)) => id,
        other => return Err(format!("expected an id, heard {other:?}").into()),
    };
    tell("inferenceId", json!(id));
    let request = rawly("airports", "code", "BYTES", 3, with_lengths(&["ZRH", "DUB", "XXX"]));
    let named = client.model_infer(request).await?.into_inner();
    tell("names", json!(texts(&named.raw_output_contents[0])?));
    tell("hubs", json!(floats(&named.raw_output_contents[1])));

    tell("streamed", refused_stream(&mut client).await?);
    let refused = client.model_infer(typed("nobody", "distance")).await;
    tell("unknownModel", refusal(refused.err())?);
    let refused = client.model_infer(typed("flight-minutes", "miles")).await;
    tell("wrongTensor", refusal(refused.err())?);
    Ok(id)
}

async fn refused_stream(client: &mut Oip) -> Result<Value, Failure> {
    match client.model_stream_infer(once(typed("flight-minutes", "distance"))).await {
        Err(status) => refusal(Some(status)),
        Ok(answer) => refusal(answer.into_inner().message().await.err()),
    }
}

async fn labels(channel: Channel, heard: &mut Map<String, Value>, id: &str) -> Result<(), Failure> {
    let mut client = FeedbackClient::new(channel);
    let label = |row| mesh::Label { inference_id: id.into(), row, value: 100.0, event_time_ms: 0 };
    let labels = vec![label(0), label(1)];
    let sent = client.send_labels(mesh::SendLabelsRequest { labels: labels.clone() }).await?;
    heard.insert("accepted".into(), json!(sent.into_inner().accepted));
    let batch = mesh::StreamLabelsRequest { number: 7, labels };
    let mut acks = client.stream_labels(once(batch)).await?.into_inner();
    let ack = acks.message().await?.ok_or("no ack")?;
    heard.insert("acknowledged".into(), json!(ack.acknowledged));
    let foreign = mesh::Label { inference_id: "inf_nonsense".into(), ..Default::default() };
    let refused = client.send_labels(mesh::SendLabelsRequest { labels: vec![foreign] }).await;
    heard.insert("foreignLabel".into(), refusal(refused.err())?);
    Ok(())
}

async fn control(channel: Channel, heard: &mut Map<String, Value>, deployment: &str) -> Result<(), Failure> {
    let requirements = mesh::Requirements {
        features: vec![mesh::Feature { name: "distance".into(), ..Default::default() }],
        uses: vec!["distance".into()],
        ..Default::default()
    };
    let request = mesh::FindModelsRequest { requirements: Some(requirements), limit: 0 };
    let found = DiscoveryClient::new(channel.clone()).find_models(request).await?.into_inner();
    let models: Vec<&str> = found.matches.iter().map(|found| found.model.as_str()).collect();
    heard.insert("found".into(), json!(models));
    let request = Request::new(mesh::WatchDeploymentRequest { id: deployment.into() });
    let mut watch = DeploymentsClient::new(channel.clone()).watch_deployment(request).await?.into_inner();
    let state = watch.message().await?.ok_or("nothing to watch")?.state();
    heard.insert("watched".into(), json!(state.as_str_name()));
    let refused = RegistryClient::new(channel).get_model(mesh::GetModelRequest { name: "nobody".into() }).await;
    heard.insert("unknownDescription".into(), refusal(refused.err())?);
    Ok(())
}

/// Code, and what google.rpc says of it.
fn refusal(status: Option<Status>) -> Result<Value, Failure> {
    let status = status.ok_or("expected a refusal")?;
    let details = status.get_error_details();
    let mut told = Map::from_iter([("code".into(), json!(status.code() as i32))]);
    if status.code() == Code::Ok {
        return Err("expected a refusal".into());
    }
    if let Some(info) = details.error_info() {
        told.insert("reason".into(), json!(info.reason));
        told.insert("domain".into(), json!(info.domain));
    }
    if let Some(bad) = details.bad_request() {
        let fields: Vec<&str> = bad.field_violations.iter().map(|violation| violation.field.as_str()).collect();
        told.insert("fields".into(), json!(fields));
    }
    Ok(Value::Object(told))
}

fn tensors(all: &[TensorMetadata]) -> Value {
    let tensor = |t: &TensorMetadata| json!({"name": t.name, "datatype": t.datatype, "shape": t.shape});
    all.iter().map(tensor).collect()
}

fn rawly(model: &str, input: &str, datatype: &str, rows: i64, raw: Vec<u8>) -> ModelInferRequest {
    let tensor =
        InferInputTensor { name: input.into(), datatype: datatype.into(), shape: vec![rows, 1], ..Default::default() };
    ModelInferRequest {
        model_name: model.into(),
        inputs: vec![tensor],
        raw_input_contents: vec![raw],
        ..Default::default()
    }
}

fn typed(model: &str, input: &str) -> ModelInferRequest {
    let contents = InferTensorContents { fp32_contents: vec![450.0, 900.0], ..Default::default() };
    let mut request = rawly(model, input, "FP32", 2, Vec::new());
    request.id = "my-id".into();
    request.raw_input_contents.clear();
    request.inputs[0].contents = Some(contents);
    request
}

fn little_endian(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn floats(raw: &[u8]) -> Vec<f32> {
    let float = |bytes: &[u8]| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    raw.chunks_exact(4).map(float).collect()
}

/// BYTES in raw contents: each element after its length, 32 bits, little-endian.
fn with_lengths(texts: &[&str]) -> Vec<u8> {
    let element = |text: &&str| [&(text.len() as u32).to_le_bytes(), text.as_bytes()].concat();
    texts.iter().flat_map(element).collect()
}

fn texts(mut raw: &[u8]) -> Result<Vec<String>, Failure> {
    let mut all = Vec::new();
    while let Some((size, rest)) = raw.split_first_chunk::<4>() {
        let (text, after) = rest.split_at(u32::from_le_bytes(*size) as usize);
        all.push(String::from_utf8(text.to_vec())?);
        raw = after;
    }
    Ok(all)
}
