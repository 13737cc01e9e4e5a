package main

import (
	"net/http"
	"time"

	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/retriever"
)

// everyOption is a configuration in which each option of the original is there, under the name that it has here.
func everyOption(etcd drm.EtcdConfig, resourcesURL string, h drm.Handler, logger *zap.Logger) (drm.Config, error) {
	source, err := retriever.NewHTTP(retriever.HTTPConfig{
		URL: resourcesURL, // fetchResourcesHttpOptions.resourcesUrl
		// fetchResourcesHttpOptions.nodeFetchOptions:
		Method:   http.MethodPost,                                 // method
		Header:   http.Header{"Authorization": {"Bearer secret"}}, // headers
		Body:     []byte(`{"kind":"websocket"}`),                  // body
		Timeout:  10 * time.Second,                                // timeout
		MaxBytes: 64 << 20,                                        // size
		Client: &http.Client{ // agent, redirect, follow, cookies
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		NumberIDs: true, // the original took ids that are numbers
	})
	if err != nil {
		return drm.Config{}, err
	}
	return drm.Config{
		App:              "resource-manager-test",                     // ringpopOptions.app
		Address:          "127.0.0.1:7777",                            // ringpopOptions.host and .port; only shown
		Etcd:             etcd,                                        // instead of ringpopHosts
		Logger:           logger,                                      // logger
		LoggerFields:     []zap.Field{zap.Int("resource-manager", 1)}, // loggerChildConfig
		Retriever:        source,                                      // or resourcesRetrieverPlugin
		PollInterval:     time.Minute,                                 // pollForNewResources and howOftenToPoll
		CacheResources:   true,                                        // cacheAllResources
		Handler:          h,                                           // resourceHandler
		FetchRetryBudget: time.Minute,                                 // maxLengthOfTimeToRetryResourceFetching
		SourcePolicy:     drm.ExitOnSourceError,                       // past it the member ends, here in order
	}, nil
}
