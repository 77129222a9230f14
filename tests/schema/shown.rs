//! How objects are shown and found.

use super::*;

#[tokio::test]
async fn kubectl_get_shows_the_columns() {
    let namespace = TestNamespace::unserved("schema").await;
    let keys = dynamic::<AccessKey>(&namespace.admin, &namespace.name);
    write_status(&keys, "subject", &issued_status()).await;
    let (columns, cells) = table(&namespace, "accesskeys").await;
    assert_eq!(
        columns,
        ["Name", "State", "Ready", "Key", "Secret", "Expires", "Age"]
    );
    let key = "kwk_00000000000000000000000001";
    assert_eq!(cells[..5], ["subject", "Active", "True", key, "subject"]);

    let devices = dynamic::<Device>(&namespace.admin, &namespace.name);
    let spec = json!({ "deviceId": "Pump_1", "disabled": true });
    devices
        .create(&PostParams::default(), &object::<Device>("pump-1", spec))
        .await
        .unwrap();
    let (columns, cells) = table(&namespace, "devices").await;
    assert_eq!(
        columns,
        ["Name", "Id", "Class", "Disabled", "Gateway", "Ready", "Age"]
    );
    assert_eq!(cells[..4], ["pump-1", "Pump_1", "Standalone", "true"]);
}

/// What `kubectl get` prints: the columns' names, and the cells of the one row.
async fn table(namespace: &TestNamespace, resource: &str) -> (Vec<String>, Vec<String>) {
    let url = format!(
        "/apis/keyward.dev/v1alpha1/namespaces/{}/{resource}",
        namespace.name
    );
    let mut request = kube::core::Request::new(url)
        .list(&ListParams::default())
        .unwrap();
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io"
        .parse()
        .unwrap();
    request.headers_mut().insert("accept", table);
    let answer: Value = namespace.admin.request(request).await.expect("a table");
    let text = |value: &Value| {
        value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned)
    };
    let columns = answer["columnDefinitions"].as_array().unwrap();
    let rows = answer["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 1);
    (
        columns.iter().map(|column| text(&column["name"])).collect(),
        rows[0]["cells"]
            .as_array()
            .unwrap()
            .iter()
            .map(text)
            .collect(),
    )
}

#[tokio::test]
async fn objects_are_found_by_their_selectable_fields() {
    let namespace = TestNamespace::unserved("schema").await;
    let keys = dynamic::<AccessKey>(&namespace.admin, &namespace.name);
    write_status(&keys, "issued", &issued_status()).await;
    let spec = json!({ "restrictions": { "allDevices": true }, "state": "Inactive" });
    keys.create(
        &PostParams::default(),
        &object::<AccessKey>("waiting", spec),
    )
    .await
    .unwrap();
    assert_eq!(names(&keys, "spec.state=Active").await, ["issued"]);
    assert_eq!(names(&keys, "spec.state=Inactive").await, ["waiting"]);
    assert_eq!(
        names(&keys, "status.key=kwk_00000000000000000000000001").await,
        ["issued"]
    );

    let devices = dynamic::<Device>(&namespace.admin, &namespace.name);
    let spec = json!({ "deviceId": "Pump_1" });
    devices
        .create(&PostParams::default(), &object::<Device>("pump-1", spec))
        .await
        .unwrap();
    assert_eq!(names(&devices, "spec.deviceId=Pump_1").await, ["pump-1"]);
}

async fn names(api: &Api<DynamicObject>, fields: &str) -> Vec<String> {
    let found = api
        .list(&ListParams::default().fields(fields))
        .await
        .expect("listed");
    found
        .items
        .into_iter()
        .filter_map(|object| object.metadata.name)
        .collect()
}

/// What `kubectl explain` prints comes from here.
#[tokio::test]
async fn every_field_is_explained() {
    let request = kube::core::Request::new("/openapi/v3/apis/keyward.dev");
    let request = request.get("v1alpha1", &Default::default()).unwrap();
    let text = admin()
        .await
        .request_text(request)
        .await
        .expect("the published schema");
    let published: Value = serde_json::from_str(&text).unwrap();
    let schemas = published["components"]["schemas"].as_object().unwrap();
    for kind in ["AccessKey", "Device"] {
        let schema = &schemas[&format!("dev.keyward.v1alpha1.{kind}")];
        assert!(
            schema["description"]
                .as_str()
                .is_some_and(|text| text.len() > 40),
            "{kind}"
        );
        let mut fields = Vec::new();
        for part in ["spec", "status"] {
            unexplained(part, &schema["properties"][part], &mut fields);
        }
        assert_eq!(
            fields,
            Vec::<String>::new(),
            "fields of {kind} without a description"
        );
    }
}

fn unexplained(path: &str, schema: &Value, fields: &mut Vec<String>) {
    if schema["description"]
        .as_str()
        .is_none_or(|text| text.trim().is_empty())
    {
        fields.push(path.to_owned());
    }
    let object = if schema["type"] == "array" {
        &schema["items"]
    } else {
        schema
    };
    for (name, field) in object["properties"].as_object().into_iter().flatten() {
        unexplained(&format!("{path}.{name}"), field, fields);
    }
}
